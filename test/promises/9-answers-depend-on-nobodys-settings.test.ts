import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { grantPrivileges } from '../../src/access/grant.ts'
import { RowSecurityError } from '../../src/errors.ts'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createLoginRole, type LoginRole } from '../support/roles.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

const worker = await createLoginRole(await testServer(), 'worker')

/** What a host may set for a database. None of it may change what a flush does. */
const SETTINGS = {
  default_transaction_isolation: 'serializable',
  default_transaction_deferrable: 'on',
  DateStyle: 'SQL, DMY',
  IntervalStyle: 'sql_standard',
  TimeZone: 'Asia/Kathmandu',
  extra_float_digits: '-15',
  lock_timeout: '50ms',
  row_security: 'on',
  enable_indexscan: 'on',
  jit: 'on',
}

test("a flush gives the same result whatever a host's database has set", async () => {
  await sameResult(await createTestDatabase())
})

test("a flush gives the same result on PostgreSQL 15, whatever a host's database has set", async t => {
  await onPostgres15(t, sameResult)
})

async function sameResult(database: TestDatabase): Promise<void> {
  for (const [name, value] of Object.entries(SETTINGS))
    await database.pool.query(`ALTER DATABASE ${database.name} SET ${name} = '${value}'`)
  const pool = new pg.Pool({ connectionString: database.connectionString })
  atEnd(() => pool.end())
  const ids = await createWorkspaces(pool, 50)
  await storeClosedMarks(pool, ids)
  const { flushes, flushed, updated, unknown } = await drain(pool, { batchSize: 20 })
  assert.deepEqual([flushes, flushed, updated, unknown], [3, 50, 50, 0])
}

test('flushes never fail with a serialization error, although the database makes every transaction serializable', async () => {
  const database = await createTestDatabase()
  await database.pool.query(
    `ALTER DATABASE ${database.name} SET default_transaction_isolation = 'serializable'`,
  )
  const pool = new pg.Pool({ connectionString: database.connectionString })
  atEnd(() => pool.end())
  const ids = await createWorkspaces(pool, 30)
  let busy = true
  const host = (async () => {
    while (busy) {
      await pool
        .query('UPDATE workspaces SET id = id WHERE id = ANY ($1)', [[ids[0], ids[7], ids[21]]])
        .catch(() => {})
    }
  })()
  for (let round = 0; round < 40; round++) {
    await storeClosedMarks(pool, ids, { agoMs: 1_000 - round })
    await flush(pool)
  }
  busy = false
  await host
  await drain(pool)
  assert.equal(await pendingCount(pool), 0)
})

test('a flush refuses to run where row security hides workspaces, and keeps every mark', async () => {
  await refusesToRun(await createTestDatabase(), worker)
})

test('a flush refuses to run where row security hides workspaces on PostgreSQL 15 as well', async t => {
  await onPostgres15(t, async database =>
    refusesToRun(database, await createLoginRole(database.connectionString, 'worker')),
  )
})

async function refusesToRun(database: TestDatabase, role: LoginRole): Promise<void> {
  const { pool } = database
  const ids = await createWorkspaces(pool, 2)
  await storeClosedMarks(pool, ids, { agoMs: 900_000 })
  const asWorker = role.pool(database)
  await grantPrivileges(pool, { workers: [role.name] })
  for (const table of ['workspaces', 'workspace_usage_day']) {
    await pool.query(`ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY`)
    for (const policy of ['', `CREATE POLICY all_rows ON ${table} USING (true)`]) {
      if (policy) await pool.query(policy)
      await assert.rejects(flush(asWorker), RowSecurityError)
      await assert.rejects(drain(asWorker), RowSecurityError)
      assert.equal(await pendingCount(pool), 2)
    }
    await pool.query(`ALTER TABLE ${table} DISABLE ROW LEVEL SECURITY`)
  }
  assert.equal((await flush(asWorker)).updated, 2)
  await pool.query(`DROP OWNED BY ${pg.escapeIdentifier(role.name)}`)
}
