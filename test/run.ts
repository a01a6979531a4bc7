/*
 * Runs the tests: `node test/run.ts [name…]`, where a name is a test file or a part of its path; all without
 * one. One server and one migrated template serve all files; see support/.
 */

import { once } from 'node:events'
import { globSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { startEmbeddedPostgres } from '../dev/postgres/embedded-postgres.ts'
import { RUN_VARIABLE, SERVER_VARIABLE, TEST_SETTINGS } from './support/settings.ts'
import { createTemplate, dropDatabasesOfRun, RUN } from './support/template.ts'

const names = process.argv.slice(2).map(name => path.normalize(name))
const files = globSync('**/*.test.ts', { cwd: import.meta.dirname })
  .map(file => path.join(import.meta.dirname, file))
  .filter(file => names.length === 0 || names.some(name => file.includes(name)))
  .sort()

const own = process.env.DATABASE_URL ? undefined : await startEmbeddedPostgres({ settings: TEST_SETTINGS })
const server = own?.connectionString ?? process.env.DATABASE_URL!
await createTemplate(server)
process.env[SERVER_VARIABLE] = server
process.env[RUN_VARIABLE] = RUN

const interruption = new AbortController()
process.once('SIGINT', () => {
  process.exitCode = 130
  interruption.abort()
})

const tests = run({
  files,
  // Most of a test's time is waiting for the server, so two files at once even on one core.
  concurrency: Math.max(2, availableParallelism()),
  // For a file that never ends, because it left something open.
  timeout: 120_000,
  signal: interruption.signal,
})
let passed = 0
tests.on('test:pass', ({ name, skip, details }) => {
  if (files.includes(name)) {
    // Node lets a file without a test pass, under its own name.
    console.error(`${name} holds no test`)
    process.exitCode = 1
  } else if (skip === undefined && details.type === 'test') {
    passed++
  }
})
tests.on('test:fail', () => {
  process.exitCode = 1
})
tests.compose(new spec()).pipe(process.stdout)
await once(tests, 'end')

if (passed === 0) {
  console.error(
    `no test ran, of ${files.length} files${names.length > 0 ? ` that match ${names.join(' ')}` : ''}`,
  )
  process.exitCode = 1
}
if (own === undefined) await dropDatabasesOfRun(server)
await own?.stop()
