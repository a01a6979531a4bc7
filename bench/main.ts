/*
 * Measures what is promised, each beside what people would use instead: `npm run bench -- [NAME…]`. It uses an embedded
 * PostgreSQL with default settings, or the server of DATABASE_URL. It creates databases of its own there.
 */

import { Argument, Command, InvalidArgumentError } from 'commander'
import { MEASURES } from './measures/list.ts'
import { chartSvg } from './report/chart.ts'
import { describeMachine } from './report/machine.ts'
import type { Report } from './report/results-page.ts'
import { screen } from './report/screen.ts'
import { writeReport } from './report/write.ts'
import { MILLION, withStage } from './stage.ts'
import { exitCode, runSuite } from './suite.ts'

interface Options {
  list: boolean
  long: boolean
  json: boolean
  write: boolean
  workspaces: number
}

const program = new Command('npm run bench --')
  .description('Measures what is promised, each measure beside what people would use instead.')
  .addArgument(
    new Argument('[names...]', 'what to measure; default: all but the long ones').choices(
      MEASURES.map(({ name }) => name),
    ),
  )
  .option('--list', 'print the names of the measures, and measure nothing', false)
  .option('--long', 'also run the measures that take minutes', false)
  .option('--json', 'print the results as JSON', false)
  .option('--write', 'write bench/RESULTS.md and bench/charts/ also if only some measures ran', false)
  .option('--workspaces <number>', 'the rows of the table; the targets count from 1,000,000', count, MILLION)
  .addHelpText(
    'after',
    '\nIt exits with 1 if a target is missed or a measure fails, and with 2 if it is called wrongly.',
  )
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .parse()
const { list, long, json, write, workspaces } = program.opts<Options>()

if (list) {
  for (const { name, title, long } of MEASURES)
    console.log(`${name.padEnd(21)}${title}${long ? ' (--long)' : ''}`)
} else {
  await bench(program.args)
}

async function bench(names: readonly string[]): Promise<void> {
  const measures = MEASURES.filter(measure =>
    names.length > 0 ? names.includes(measure.name) : long || !measure.long,
  )
  const judged = workspaces >= MILLION
  const started = performance.now()
  const say = (text: string) =>
    console.error(`[${((performance.now() - started) / 1_000).toFixed(0)} s] ${text}`)
  const report = await withStage({ workspaces, progress: say }, async (stage): Promise<Report> => {
    const machine = await describeMachine(stage.server)
    const outcomes = await runSuite({
      measures,
      stage,
      onStep: ({ name }, place, step) => say(`${place}/${measures.length} ${name}: ${step}`),
      onOutcome: outcome => json || console.log(screen(outcome, judged)),
    })
    const date = new Date().toISOString().slice(0, 10)
    const notRun = MEASURES.filter(measure => !measures.includes(measure))
    return { date, machine, workspaces, judged, outcomes, notRun }
  })
  if (json) console.log(JSON.stringify(report, null, 2))
  if (write || (names.length === 0 && judged)) {
    for (const file of await writeReport(report, chartSvg)) say(`wrote ${file}`)
  }
  process.exitCode = exitCode(report.outcomes, { judged })
}

function count(value: string): number {
  const number = Number(value.replaceAll(/[_,]/g, ''))
  if (Number.isSafeInteger(number) && number >= 100 && number <= 10_000_000) return number
  throw new InvalidArgumentError('It must be a whole number from 100 to 10,000,000.')
}
