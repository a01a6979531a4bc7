import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { privilegeStatements } from '../src/access/duties.ts'
import { grantPrivileges, revokePrivileges } from '../src/access/grant.ts'
import { explainUsage } from '../src/activity/explain.ts'
import { failingFlushes } from '../src/activity/failing-flushes.ts'
import { usageHistory } from '../src/activity/history.ts'
import { idleWorkspaces } from '../src/activity/idle.ts'
import { idleForecast } from '../src/activity/idle-forecast.ts'
import { lastFlush } from '../src/activity/last-flush.ts'
import { refusedWorkspaces } from '../src/activity/refused.ts'
import { openPeriodRemaining, pendingStatus } from '../src/activity/status.ts'
import { createPool } from '../src/database/pool.ts'
import { InvalidOptionError, UnknownOptionError, WorkspaceUsageError } from '../src/errors.ts'
import { drain } from '../src/flush/drain.ts'
import { flush } from '../src/flush/flush.ts'
import { importUsage } from '../src/import/import-usage.ts'
import { markUsage } from '../src/mark/mark.ts'
import { UsageTracker } from '../src/mark/tracker.ts'
import { checkOptions, integerWithin, numberWithin, oneOf } from '../src/options.ts'
import { migrate } from '../src/schema/migrate.ts'
import { migrateDown } from '../src/schema/migrate-down.ts'
import { setUsagePeriod, usagePeriod } from '../src/schema/period.ts'
import { uninstall } from '../src/schema/uninstall.ts'
import { startFlushWorker } from '../src/worker/worker.ts'
import { collectLog } from './support/log-lines.ts'

/** Nothing listens on this port, so a statement that is sent fails with another error than the expected one. */
const NOWHERE = 'postgres://127.0.0.1:1/nowhere'
const nowhere = createPool(NOWHERE, { applicationName: 'test', max: 1 })
const ID = '0b8f9f4e-2c55-4f11-9d0c-6a1f0c2b7a10'
const { logger } = collectLog()

/** Each public function that takes options: how to call it with them, and one option of it. */
const FUNCTIONS: Record<string, [call: (options: never) => unknown, option: string]> = {
  markUsage: [options => markUsage(nowhere, ID, options), 'source'],
  UsageTracker: [options => new UsageTracker(nowhere, options), 'maxPending'],
  'UsageTracker.close': [options => new UsageTracker(nowhere, { logger }).close(options), 'timeoutMs'],
  flush: [options => flush(nowhere, options), 'batchSize'],
  drain: [options => drain(nowhere, options), 'onFlush'],
  idleWorkspaces: [options => idleWorkspaces(nowhere, options), 'idleForSeconds'],
  explainUsage: [options => explainUsage(nowhere, ID, options), 'breakSeconds'],
  usageHistory: [options => usageHistory(nowhere, ID, options), 'breakSeconds'],
  importUsage: [options => importUsage(nowhere, [], options), 'batchSize'],
  idleForecast: [options => idleForecast(nowhere, options), 'idleForSeconds'],
  grantPrivileges: [options => grantPrivileges(nowhere, options), 'markers'],
  revokePrivileges: [options => revokePrivileges(nowhere, options), 'workers'],
  startFlushWorker: [options => startFlushWorker(options), 'flushIntervalSeconds'],
  migrate: [options => migrate(options), 'connectionString'],
  uninstall: [options => uninstall(options), 'logger'],
  migrateDown: [options => migrateDown(options), 'connectionString'],
}

for (const [name, [call, option]] of Object.entries(FUNCTIONS)) {
  test(`${name} refuses a misspelt option and names the nearest, before anything is sent`, async () => {
    for (const misspelt of [`${option}s`, option.toLowerCase(), option.slice(1)]) {
      if (misspelt === option) continue
      await assert.rejects(
        async () => call({ [misspelt]: undefined } as never),
        (error: unknown) => {
          assert.ok(error instanceof UnknownOptionError, String(error))
          assert.equal(error.option, misspelt)
          assert.ok(error.known.includes(option))
          assert.match(
            error.message,
            new RegExp(`^no such option: "${misspelt}". Did you mean "${option}"\\? `),
          )
          return true
        },
      )
    }
  })

  test(`${name} refuses options that are no object`, async () => {
    for (const options of [null, 5, 'ssh']) {
      await assert.rejects(async () => call(options as never), {
        name: 'InvalidOptionError',
        message: `options is ${typeof options === 'string' ? '"ssh"' : options}; allowed: an object.`,
      })
    }
  })
}

test('an option that resembles none is refused with the list of those that exist', () => {
  const rules = { batchSize: integerWithin(1, 5), sources: oneOf(true, false) }
  assert.throws(() => checkOptions<object>({ unrelated: 1 }, rules), {
    name: 'UnknownOptionError',
    message: 'no such option: "unrelated". Leave it out. Allowed: batchSize, sources.',
  })
  // A property that every object has is no option.
  assert.throws(() => checkOptions(JSON.parse('{"__proto__": 1}'), rules), UnknownOptionError)
  assert.throws(() => checkOptions<object>({ constructor: 1 }, rules), UnknownOptionError)
})

test('an option that is undefined counts as left out', () => {
  checkOptions({ batchSize: undefined }, { batchSize: integerWithin(1, 5) })
})

test('a rule for a range accepts both ends and nothing beyond, and names its unit', () => {
  const integer = integerWithin(1, 5, 'marks')
  assert.equal(integer.words, 'an integer from 1 to 5 marks')
  for (const value of [1, 5]) assert.ok(integer.accepts(value))
  for (const value of [0, 6, 1.5, Number.NaN, '3', null, 3n])
    assert.ok(!integer.accepts(value), String(value))
  const number = numberWithin(0.1, 25, 'seconds')
  assert.equal(number.words, '0.1 to 25 seconds')
  for (const value of [0.1, 2.5, 25]) assert.ok(number.accepts(value))
  for (const value of [0.09, 25.1, Number.NaN, Number.POSITIVE_INFINITY, '3'])
    assert.ok(!number.accepts(value))
  assert.throws(() => checkOptions({ timeout: 0 }, { timeout: number }), InvalidOptionError)
})

/** Each public function that takes a connection, with all else that it needs. */
const CONNECTED: Record<string, (connection: never) => unknown> = {
  markUsage: connection => markUsage(connection, ID),
  flush: connection => flush(connection),
  drain: connection => drain(connection),
  idleWorkspaces: connection => idleWorkspaces(connection, { idleForSeconds: 1 }).next(),
  idleForecast: connection => idleForecast(connection, { idleForSeconds: 1 }),
  explainUsage: connection => explainUsage(connection, ID),
  usageHistory: connection => usageHistory(connection, ID),
  importUsage: connection => importUsage(connection, []),
  pendingStatus: connection => pendingStatus(connection),
  openPeriodRemaining: connection => openPeriodRemaining(connection),
  lastFlush: connection => lastFlush(connection),
  failingFlushes: connection => failingFlushes(connection),
  refusedWorkspaces: connection => refusedWorkspaces(connection),
  usagePeriod: connection => usagePeriod(connection),
  setUsagePeriod: connection => setUsagePeriod(connection, 1),
  privilegeStatements: connection => privilegeStatements(connection, 'grant', { markers: ['somebody'] }),
}

for (const [name, call] of Object.entries(CONNECTED)) {
  test(`${name} says what a connection is if it gets something else`, async () => {
    for (const [connection, quoted] of [
      [undefined, 'undefined'],
      [null, 'null'],
      [NOWHERE, `"${NOWHERE}"`],
      [{}, '[object Object]'],
    ]) {
      await assert.rejects(async () => call(connection as never), {
        name: 'InvalidOptionError',
        message: `connection is ${quoted}; allowed: a pg Pool or Client, PGlite, or a Kysely instance.`,
      })
    }
  })
}

test('grantPrivileges says what a pool is if it gets something else', async () => {
  await assert.rejects(grantPrivileges(undefined as never, {}), {
    name: 'InvalidOptionError',
    message: 'pool is undefined; allowed: a pg Pool.',
  })
})

test('an error shows no password of a connection string that stands in the wrong place', async () => {
  const url = 'postgres://somebody:secret@127.0.0.1/x'
  for (const call of [
    () => flush(url as never),
    () => markUsage(nowhere, url),
    () => markUsage(nowhere, ID, { source: `${url}${'x'.repeat(63)}` }),
    async () => new UsageTracker(url as never),
    async () => checkOptions<object>({ a: url }, { a: integerWithin(1, 5) } as never),
  ]) {
    await assert.rejects(call, (error: Error) => {
      assert.ok(error instanceof WorkspaceUsageError)
      assert.ok(error.message.includes('somebody:***@'), error.message)
      assert.ok(!inspect(error).includes('secret'), inspect(error))
      return true
    })
  }
})
