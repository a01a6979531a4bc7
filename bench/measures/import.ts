import { execFile } from 'node:child_process'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { atMost, inTurn, type Measure, type Result, row, type Stage, summary } from '../measure.ts'
import { builtProgram } from '../support/built.ts'

const ROOT = path.join(import.meta.dirname, '../..')

const run = promisify(execFile)

/** What the import of some modules costs a process. */
interface Cost {
  ms: number
  /** Resident memory of the whole process afterwards, in MB. */
  mb: number
}

/**
 * What the import of this package costs, beside that of `pg`, which a program needs anyway. The entry for markers and
 * the main entry are measured. Each import is a new process, in alternating order.
 */
export const importing: Measure = {
  name: 'import',
  title: 'Import of the package, in a new process',
  async run({ progress, scaled }: Stage): Promise<Result> {
    const rounds = scaled(15, 3)
    progress('building the package')
    await builtProgram()
    const entry = (file: string) => pathToFileURL(path.join(ROOT, 'dist/src', file)).href
    const programs = {
      pg: ['pg'],
      marker: ['pg', entry('mark/index.js')],
      main: ['pg', entry('index.js')],
    }
    type Name = keyof typeof programs
    const names = Object.keys(programs) as Name[]
    progress(`importing it in ${names.length * rounds} processes`)
    const costs: Record<Name, Cost[]> = { pg: [], marker: [], main: [] }
    await inTurn(rounds, names, async name => costs[name].push(await costOf(programs[name])))
    const of = (name: Name, part: keyof Cost) => summary(costs[name].map(cost => cost[part]))
    const beyond = (name: Name, part: keyof Cost) => of(name, part).median - of('pg', part).median
    return {
      rows: [
        row('pg and workspace-usage/mark', 'ms', of('marker', 'ms')),
        row('pg and workspace-usage', 'ms', of('main', 'ms')),
        row('pg alone', 'ms', of('pg', 'ms')),
        row('pg and workspace-usage/mark', 'MB', of('marker', 'mb')),
        row('pg and workspace-usage', 'MB', of('main', 'mb')),
        row('pg alone', 'MB', of('pg', 'mb')),
      ],
      limits:
        'The entry for markers is one bundled file without dependencies. The main entry loads pg-boss and Kysely, ' +
        'which a worker needs. The memory is that of the whole process.',
      targets: [
        atMost('the entry for markers, beyond pg', beyond('marker', 'ms'), 5, 'ms'),
        atMost('the entry for markers, beyond pg', beyond('marker', 'mb'), 3, 'MB'),
      ],
    }
  },
}

async function costOf(modules: readonly string[]): Promise<Cost> {
  const program = `
    const started = performance.now()
    ${modules.map(module => `await import(${JSON.stringify(module)})`).join('\n')}
    const ms = performance.now() - started
    console.log(JSON.stringify({ ms, mb: process.memoryUsage.rss() / 1e6 }))`
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', program], { cwd: ROOT })
  return JSON.parse(stdout)
}
