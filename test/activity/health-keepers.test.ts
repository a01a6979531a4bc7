import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { grantPrivileges } from '../../src/access/grant.ts'
import { type HealthOptions, usageHealth } from '../../src/activity/health.ts'
import type { Problem } from '../../src/activity/problem.ts'
import type { Queryable } from '../../src/database/connection.ts'
import { flush } from '../../src/flush/flush.ts'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { startServer } from '../support/server.ts'
import { startStandby } from '../support/standby.ts'
import { testServer } from '../support/test-server.ts'
import { openTransaction } from '../support/transaction.ts'

/*
 * Who keeps VACUUM back, and who holds marks. The verdict names them, also to a role that sees no times of others.
 */

async function problemsOf(db: Queryable, options?: HealthOptions): Promise<Problem[]> {
  return (await usageHealth(db as never, options)).problems
}

const codesOf = (problems: Problem[]) => problems.map(({ code }) => code)

/** A flush job that was completed some time ago, by a transaction that ends now. */
async function completeJob({ pool }: TestDatabase, agoSeconds: number): Promise<void> {
  await pool.query(
    `INSERT INTO pgboss.job (name, state, completed_on, output)
    VALUES ($1, 'completed', clock_timestamp() - make_interval(secs => $2), '{}')`,
    [FLUSH_QUEUE, agoSeconds],
  )
}

for (const [version, server] of Object.entries({ 18: testServer, 15: testServer15 })) {
  test(`a worker's role sees that another's transaction is older than a flush job, on PostgreSQL ${version}`, async t => {
    const url = await server()
    if (url === null) return t.skip(POSTGRES_15_MISSING)
    const role = await createLoginRole(url, 'worker')
    const database = await createTestDatabase({ on: url })
    await grantPrivileges(database.pool, { workers: [role.name] })
    const own = role.pool(database)
    await flush(database.pool)
    assert.deepEqual(await problemsOf(own), [])

    const other = await database.connect({ application_name: 'report' })
    await other.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM workspaces')
    await completeJob(database, 599)
    assert.deepEqual(await problemsOf(own), [], 'nothing tells how old it is')
    await completeJob(database, 601)
    const [problem, ...more] = await problemsOf(own)
    assert.deepEqual(more, [])
    assert.equal(problem?.code, 'old-transaction')
    assert.equal(
      problem.message,
      `VACUUM can not remove flushed marks because of the transaction of process ${other.processID} (report), for longer than 10 min.`,
    )
    assert.deepEqual(
      [problem.since, problem.object],
      [null, `the transaction of process ${other.processID} (report)`],
    )
    assert.deepEqual(await problemsOf(database.pool), [], 'who sees the time knows better')
    await other.query('COMMIT')
    assert.deepEqual(await problemsOf(own), [])

    await other.query('BEGIN')
    await other.query('SELECT FROM workspaces')
    await completeJob(database, 601)
    assert.deepEqual(await problemsOf(own), [], 'between its statements, one that only reads keeps nothing')
    await other.query('COMMIT')
  })

  test(`the problem of held marks names who has locked their workspaces, on PostgreSQL ${version}`, async t => {
    const url = await server()
    if (url === null) return t.skip(POSTGRES_15_MISSING)
    const database = await createTestDatabase({ on: url })
    await storeClosedMarks(database.pool, await createWorkspaces(database.pool, 2), { agoMs: 601_000 })
    const writer = await database.connect({ application_name: 'billing' })
    await writer.query('BEGIN; SELECT FROM workspaces FOR UPDATE')
    await using reader = await openTransaction(database)
    await reader.client.query('SELECT FROM workspaces')
    await flush(database.pool)
    const [problem, ...more] = await problemsOf(database.pool)
    assert.deepEqual(
      [problem?.code, problem?.object, more],
      ['held', `process ${writer.processID} (billing)`, []],
    )
    assert.match(
      problem!.message,
      /^2 marks are held for more than 600 s: perhaps process \d+ \(billing\): a transaction keeps the workspaces locked\.$/,
    )
    await writer.query('COMMIT')
    const [left] = await problemsOf(database.pool)
    assert.deepEqual([left?.code, left?.object], ['held', null], 'the next flush takes them')
    await flush(database.pool)
    assert.deepEqual(await problemsOf(database.pool), [])
  })
}

test('a prepared transaction that keeps VACUUM back is named, until it is gone', async () => {
  const { connectionString } = await startServer({ max_prepared_transactions: '2' })
  const database = await createTestDatabase({ on: connectionString })
  const limit = { oldTransactionSeconds: 1 }
  const client = await database.connect()
  await client.query("BEGIN; INSERT INTO workspaces DEFAULT VALUES; PREPARE TRANSACTION 'it''s'")
  const [prepared] = await until('it is a second old', () => problemsOf(database.pool, limit), {
    accept: problems => problems.length > 0,
  })
  assert.deepEqual(
    [prepared?.code, prepared?.object],
    ['old-transaction', "the prepared transaction 'it''s'"],
  )
  assert.ok(prepared?.since instanceof Date)
  await client.query("ROLLBACK PREPARED 'it''s'")
  assert.deepEqual(codesOf(await problemsOf(database.pool, limit)), [])
})

test('an old transaction in another database is no problem', async () => {
  const [one, other] = [await createTestDatabase(), await createTestDatabase()]
  await Promise.all([flush(one.pool), flush(other.pool)])
  await using writer = await openTransaction(other)
  await writer.client.query('SELECT pg_current_xact_id()')
  const limit = { oldTransactionSeconds: 1 }
  await until('it is a second old', () => problemsOf(other.pool, limit), {
    accept: problems => problems.length > 0,
  })
  assert.deepEqual(await problemsOf(one.pool, limit), [])
})

for (const slot of ['standby', '']) {
  const what = slot === '' ? 'a standby without a slot' : 'a replication slot'
  test(`${what} that keeps VACUUM back is named once a flush job is older, until it is gone`, async () => {
    const primary = await startServer()
    const standby = await startStandby(primary)
    const database = await createTestDatabase({ on: primary.connectionString })
    if (slot !== '') await database.pool.query('SELECT pg_create_physical_replication_slot($1)', [slot])
    await setOnStandby(standby.connectionString, { hot_standby_feedback: 'on', primary_slot_name: slot })
    const horizon = () => horizonOf(database, slot)
    assert.deepEqual(codesOf(await problemsOf(database.pool)), [])

    const url = new URL(standby.connectionString)
    url.pathname = `/${database.name}`
    const reader = new pg.Client({ connectionString: url.href })
    await reader.connect()
    try {
      await until('the standby has the database', () => reader.query('SELECT FROM workspaces LIMIT 0'))
      await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM workspaces')
      await until('the standby reports its snapshot', horizon)
      await completeJob(database, 601)
      const problems = await until('it is older', () => problemsOf(database.pool), {
        accept: found => found.length > 0,
      })
      assert.deepEqual(codesOf(problems), ['old-transaction'])
      const name = slot === '' ? /^the standby of process \d+ \(/ : /^the replication slot standby$/
      assert.match(problems[0]!.object!, name)
      await reader.query('COMMIT')
      await until(
        'the standby reports no snapshot',
        async () => (await problemsOf(database.pool)).length === 0,
      )
    } finally {
      await reader.end()
    }
  })
}

async function setOnStandby(connectionString: string, settings: Record<string, string>): Promise<void> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  for (const [name, value] of Object.entries({ wal_receiver_status_interval: '1s', ...settings }))
    await client.query(`ALTER SYSTEM SET ${name} = '${value}'`)
  await client.query('SELECT pg_reload_conf()')
  await client.end()
}

/** What a standby keeps from VACUUM: a transaction number. */
async function horizonOf({ pool }: TestDatabase, slot: string): Promise<string | null> {
  const { rows } = await pool.query(
    slot === ''
      ? `SELECT backend_xmin::text AS xmin FROM pg_stat_activity WHERE backend_type = 'walsender'`
      : `SELECT xmin::text FROM pg_replication_slots`,
  )
  return rows[0]?.xmin ?? null
}
