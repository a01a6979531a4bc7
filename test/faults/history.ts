/*
 * The history check: `node test/faults/history.ts --minutes 1`. See docs/faults.md.
 */

import { memoryDirectory } from '../support/memory-directory.ts'
import { ArgumentError, HELP, type Options, readOptions } from './history/options.ts'
import { runCheck } from './history/run.ts'
import { checksOf, describeRun, isViolated } from './history/table.ts'

/** How much longer than its minutes a run may take, in ms. It must end, whatever happens. */
const GRACE_MS = 240_000

const tell = (text: string) => void process.stderr.write(`${text}\n`)

process.exitCode = await main(process.argv.slice(2))

async function main(args: string[]): Promise<number> {
  let options: Options | null
  try {
    options = readOptions(args)
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error
    tell(`error: ${error.message}\n\n${HELP}`)
    return 2
  }
  if (options === null) {
    process.stdout.write(HELP)
    return 0
  }
  return await check(options)
}

async function check(options: Options): Promise<number> {
  const inMemory = memoryDirectory()
  if (inMemory !== undefined) process.env.TMPDIR ??= inMemory
  tell(`seed ${options.seed}, PostgreSQL ${options.postgres}, ${options.minutes} min`)
  const timer = setTimeout(
    () => {
      tell('error: the check did not end in time')
      process.exit(1)
    },
    options.minutes * 60_000 + GRACE_MS,
  )
  const totals = await runCheck(options, tell)
  clearTimeout(timer)
  const { seed } = options
  const report = options.json ? JSON.stringify({ seed, ...totals }, null, 2) : describeRun(totals, seed)
  process.stdout.write(`${report}\n`)
  return checksOf(totals).some(isViolated) ? 1 : 0
}
