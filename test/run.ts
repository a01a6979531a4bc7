/*
 * Runs the tests: `node test/run.ts [--postgres-15] [name…]`, where a name is a test file or a part of its path, such as
 * `flush` or `soak`. Without a name it runs all but those of test/soak/ and test/faults/long/, which take longer. One
 * server and one migrated template serve all files; see support/. With --postgres-15 that server, and those that test
 * files start, are the system's PostgreSQL 15.
 */

import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { parseArgs } from 'node:util'
import { startEmbeddedPostgres } from '../dev/postgres/embedded-postgres.ts'
import {
  installedPrograms15,
  POSTGRES_15_MISSING,
  startInstalledPostgres15,
} from './support/installed-postgres-15.ts'
import { memoryDirectory } from './support/memory-directory.ts'
import { programsOfRun } from './support/programs-of-run.ts'
import {
  PROGRAMS_VARIABLE,
  RUN_VARIABLE,
  SERVER_15_VARIABLE,
  SERVER_VARIABLE,
  TEST_SETTINGS,
} from './support/settings.ts'
import { createTemplate, dropDatabasesOfRun, RUN } from './support/template.ts'
import { selectTestFiles, timeoutOf } from './support/test-files.ts'

const { values, positionals: names } = parseArgs({
  options: { 'postgres-15': { type: 'boolean', default: false } },
  allowPositionals: true,
})
const files = selectTestFiles(names)

const inMemory = memoryDirectory()
if (inMemory !== undefined) process.env.TMPDIR ??= inMemory
// Programs that tests start load the same modules over and over; this halves the time of their start.
process.env.NODE_COMPILE_CACHE ??= 'node_modules/.cache/node-compile-cache'

if (values['postgres-15']) {
  const programs = installedPrograms15()
  if (programs === null) throw new Error(POSTGRES_15_MISSING)
  process.env[PROGRAMS_VARIABLE] = programs
  delete process.env.DATABASE_URL
}
const [own, own15] = await Promise.all([
  process.env.DATABASE_URL
    ? undefined
    : startEmbeddedPostgres({ ...programsOfRun(), settings: TEST_SETTINGS }),
  // If files are run by name, the few that need PostgreSQL 15 start their own.
  names.length > 0 || values['postgres-15'] ? null : startInstalledPostgres15(),
])
const server = own?.connectionString ?? process.env.DATABASE_URL!
process.env[SERVER_VARIABLE] = server
process.env[RUN_VARIABLE] = RUN
await createTemplate(server)
if (values['postgres-15']) process.env[SERVER_15_VARIABLE] = server
if (own15) {
  await createTemplate(own15.connectionString)
  process.env[SERVER_15_VARIABLE] = own15.connectionString
}

const timeout = timeoutOf(files)
process.env.TEST_FILE_LIMIT_MS ??= String(2.5 * timeout)
const interruption = new AbortController()
process.once('SIGINT', () => {
  process.exitCode = 130
  interruption.abort()
})

const tests = run({
  files,
  // Most of a test's time is waiting for a server or a program, so two files more than there are cores.
  concurrency: availableParallelism() + 2,
  timeout,
  execArgv: ['--import', new URL('support/left-open.ts', import.meta.url).href],
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
await Promise.all([own?.stop(), own15?.stop()])
