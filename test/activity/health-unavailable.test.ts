import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { grantPrivileges } from '../../src/access/grant.ts'
import { type Health, usageHealth } from '../../src/activity/health.ts'
import { InvalidOptionError, UnknownOptionError } from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { connectHostile } from '../support/hostile-connection.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

const server = await testServer()
const worker = await createLoginRole(server, 'worker')
const reader = await createLoginRole(server, 'reader')
const database = await createTestDatabase()
const { pool } = database

function assertUnavailable(health: Health, message: RegExp, remedy: RegExp): void {
  const { problems, ...rest } = health
  assert.deepEqual(
    problems.map(({ code, severity }) => `${severity} ${code}`),
    ['critical unavailable'],
  )
  assert.match(problems[0]!.message, message)
  assert.match(problems[0]!.remedy, remedy)
  assert.deepEqual([rest.ok, rest.critical, rest.asOf, rest.pending], [false, true, null, null])
}

testOnBothVersions('a database that is not migrated has no verdict, and is told to migrate', async empty => {
  assertUnavailable(
    await usageHealth(empty.pool),
    /not migrated.*workspace-usage migrate/,
    /workspace-usage migrate/,
  )
})

test('a server that is not there gives no verdict, and the password is not told', async () => {
  const gone = new pg.Pool({ connectionString: 'postgres://somebody:secret@127.0.0.1:1/nowhere' })
  const health = await usageHealth(gone)
  assertUnavailable(health, /ECONNREFUSED/, /whether the server runs/)
  assert.doesNotMatch(JSON.stringify(health), /secret/)
  await gone.end()
})

test('a server that does not answer gives no verdict, in bounded time', async () => {
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const silent = new pg.Pool({ connectionString: proxy.connectionString })
  silent.on('error', () => {})
  await silent.query('SELECT 1')
  proxy.silence('silent')
  const begun = performance.now()
  assertUnavailable(
    await usageHealth(silent, { timeoutSeconds: 0.5 }),
    /did not answer within/,
    /waiting for/,
  )
  assert.ok(performance.now() - begun < 5_000)
  proxy.heal()
  assert.notEqual((await usageHealth(silent)).asOf, null, 'the next question uses another connection')
  await silent.end()
})

test('a role with the rights of a worker gets the verdict, and a reader is told which rights it needs', async () => {
  await grantPrivileges(pool, { workers: [worker.name], readers: [reader.name] })
  await flush(pool)
  assert.equal((await usageHealth(worker.pool(database))).ok, true)
  const refused = await usageHealth(reader.pool(database))
  assertUnavailable(refused, /permission denied/, /grant --worker/)
  assert.doesNotMatch(refused.problems[0]!.message, /Run:/, 'the command is told once')
})

test('the verdict is the same under hostile settings of a role, a pool and a Kysely instance', async () => {
  const ids = await createWorkspaces(pool, 2)
  await storeClosedMarks(pool, ids, { agoMs: 7 * 86_400_000 })
  await pool.query(
    `INSERT INTO pending_usage_reset VALUES (clock_timestamp() - interval '1 h', clock_timestamp())`,
  )
  const told = ({ problems, pending }: Health) => ({
    codes: problems.map(({ code, severity }) => `${severity} ${code}`),
    closed: pending?.closed,
  })
  const expected = told(await usageHealth(pool))
  assert.deepEqual(expected.codes, ['critical lag', 'warning reset'])
  const hostile = connectHostile(database)
  for (const [name, connection] of hostile.each)
    assert.deepEqual(told(await usageHealth(connection)), expected, name)
  await pool.query('TRUNCATE pending_usage, pending_usage_reset')
})

test('the verdict refuses options that do not exist or are out of range, and sends nothing', async () => {
  const unused = new pg.Pool({ connectionString: 'postgres://127.0.0.1:1/nowhere' })
  for (const options of [
    { maxLagSeconds: -1 },
    { maxLagSeconds: Number.NaN },
    { silentAfterSeconds: 59 },
    { silentAfterSeconds: '3600' as never },
    { loggedMarks: 'yes' as never },
    { timeoutSeconds: 0 },
    { bloatBytes: 0.5 },
  ]) {
    await assert.rejects(usageHealth(unused, options), InvalidOptionError)
  }
  await assert.rejects(usageHealth(unused, { maxLagSecond: 180 } as never), (error: UnknownOptionError) => {
    assert.ok(error instanceof UnknownOptionError)
    assert.match(error.message, /Did you mean "maxLagSeconds"\?/)
    return true
  })
  await assert.rejects(usageHealth('postgres://nowhere' as never), InvalidOptionError)
  assert.equal(unused.totalCount, 0)
  await unused.end()
})
