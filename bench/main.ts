/*
 * Measures what is promised: `npm run bench -- NAME…`. Without a name it measures everything. It uses an embedded
 * PostgreSQL with default settings, or the server of DATABASE_URL. It creates databases of its own there.
 */

import Table from 'cli-table3'
import { Argument, Command } from 'commander'
import { startEmbeddedPostgres } from '../dev/postgres/embedded-postgres.ts'
import { measureFlush } from './flush.ts'
import { measureImport } from './import.ts'
import type { Measurement } from './measurement.ts'
import { measureSizing } from './sizing.ts'
import { measureTracker } from './tracker.ts'

const BENCHES = {
  flush: { about: 'what a flush costs in a database of a million workspaces', measure: measureFlush },
  import: { about: 'what the import of this package costs a process', measure: measureImport },
  sizing: { about: 'what a thousand to a million active workspaces cost', measure: measureSizing },
  tracker: { about: 'what a tracker costs its process and the database', measure: measureTracker },
}
type Name = keyof typeof BENCHES
const NAMES = Object.keys(BENCHES) as Name[]

const program = new Command('npm run bench --')
  .description('Measures what is promised, each measure beside its comparison.')
  .addArgument(new Argument('[names...]', 'what to measure; default: all').choices(NAMES))
  .option('--json', 'print the measurements as JSON')
  .addHelpText('after', () =>
    ['', ...NAMES.map(name => `  ${name.padEnd(10)}${BENCHES[name].about}`)].join('\n'),
  )
  .parse()
const { json = false } = program.opts<{ json?: boolean }>()
const names = program.args.length > 0 ? (program.args as Name[]) : NAMES

const own = process.env.DATABASE_URL ? undefined : await startEmbeddedPostgres()
const server = own?.connectionString ?? process.env.DATABASE_URL!
try {
  const results: Record<string, Measurement[]> = {}
  for (const name of names) {
    results[name] = await BENCHES[name].measure(server, step => console.error(`${name}: ${step}`))
    if (!json) console.log(table(results[name]))
  }
  if (json) console.log(JSON.stringify(results, null, 2))
} finally {
  await own?.stop()
}

function table(measurements: readonly Measurement[]): string {
  const table = new Table({
    head: ['measure', 'result', 'compared with', 'target'],
    colWidths: [32, 34, 44, 24],
    wordWrap: true,
    style: { head: [], border: [] },
  })
  for (const { measure, result, comparison, target = '', reached } of measurements) {
    table.push([
      measure,
      result,
      comparison,
      reached === undefined ? target : `${target} ${reached ? '✔' : '✘'}`,
    ])
  }
  return table.toString()
}
