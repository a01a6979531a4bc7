import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type FlushResult, flush } from '../../src/flush/flush.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'

/** What a host may do in a transaction that stays open, so that an UPDATE of its workspace would wait. */
const HOLDS: Record<string, { before?: string; hold: string }> = {
  'deletes a row of workspace_usage': { hold: 'DELETE FROM workspace_usage WHERE workspace_id = $1' },
  'locks a row of workspace_usage': {
    hold: 'SELECT FROM workspace_usage WHERE workspace_id = $1 FOR SHARE',
  },
  'inserts a child row, and a unique index contains last_used_at': {
    before: `
      CREATE UNIQUE INDEX ON workspaces (id, last_used_at);
      CREATE TABLE child (workspace_id uuid REFERENCES workspaces (id))`,
    hold: 'INSERT INTO child VALUES ($1)',
  },
  'updates the workspace': { hold: 'UPDATE workspaces SET last_used_at = last_used_at WHERE id = $1' },
  'deletes the workspace': { hold: 'DELETE FROM workspaces WHERE id = $1' },
}

test('a flush holds the mark of a workspace that it would have to wait for, and flushes the others within a moment', async t => {
  await holdsOnlyOne(t, await createTestDatabase())
})

test('a flush waits for nobody on PostgreSQL 15 either', async t => {
  await onPostgres15(t, database => holdsOnlyOne(t, database))
})

async function holdsOnlyOne(
  t: { test(name: string, run: () => Promise<void>): Promise<void> },
  database: TestDatabase,
): Promise<void> {
  const { pool } = database
  for (const [name, { before, hold }] of Object.entries(HOLDS)) {
    await t.test(`a transaction ${name}`, async () => {
      if (before) await pool.query(before)
      const ids = await createWorkspaces(pool, 5)
      await storeClosedMarks(pool, ids, { agoMs: 60_000 })
      await flush(pool)
      await storeClosedMarks(pool, ids)
      await using host = await openTransaction(database)
      await host.client.query(hold, [ids[2]])
      const started = performance.now()
      const { flushed, updated, held, refused } = await flush(pool)
      assert.deepEqual([flushed, updated, held, refused], [4, 4, 1, 0])
      assert.ok(performance.now() - started < 1_000)
      await host.client.query('ROLLBACK')
      assert.equal((await flush(pool)).flushed, 1)
      assert.equal(await pendingCount(pool), 0)
    })
  }
}

test('a mark that was stored again after it was set aside makes no flush wait for another flush', async () => {
  const database = await createTestDatabase()
  const { pool } = database
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!])
  await using host = await openTransaction(database)
  await host.client.query('UPDATE workspaces SET id = id')
  assert.equal((await flush(pool)).held, 1)
  const storeAgain = () =>
    pool.query(`INSERT INTO pending_usage (period_end, workspace_id, source)
      SELECT period_end, workspace_id, source FROM set_aside_usage`)

  // Another flush looks at it again, and its transaction goes on.
  for (const end of ['ROLLBACK', 'COMMIT']) {
    await using other = await openTransaction(database)
    await flush(other.client)
    await storeAgain()
    const { held, refused } = await flushWithoutWaiting(database)
    assert.deepEqual([held, refused], [1, 0])
    await other.client.query(end)
  }

  // Another flush settles it.
  await host.client.query('ROLLBACK')
  await using other = await openTransaction(database)
  assert.equal((await flush(other.client)).flushed, 1)
  await storeAgain()
  const { held, refused } = await flushWithoutWaiting(database)
  assert.deepEqual([held, refused], [1, 0])
  await other.client.query('COMMIT')
  const used = await pool.query('SELECT FROM workspaces WHERE last_used_at IS NOT NULL')
  assert.equal(used.rowCount, 1)
  assert.equal(await pendingCount(pool), 0)
  assert.equal((await pool.query('SELECT FROM set_aside_usage')).rowCount, 0)
})

test('two flushes that are refused the same workspace do not wait for each other', async () => {
  const database = await createTestDatabase()
  const { pool } = database
  const ids = await createWorkspaces(pool, 2)
  await pool.query(`ALTER TABLE workspaces ADD CHECK (id <> '${ids[0]}' OR last_used_at IS NULL)`)
  await storeClosedMarks(pool, ids)
  {
    await using other = await openTransaction(database)
    assert.equal((await flush(other.client)).refused, 1)
    await storeClosedMarks(pool, [ids[0]!])
    const { held, refused } = await flushWithoutWaiting(database)
    assert.deepEqual([held, refused], [1, 0])
    await other.client.query('COMMIT')
  }

  // Another one tries it again, while older marks of it are forgotten.
  await pool.query("UPDATE refused_usage SET next_attempt_at = '-infinity'")
  await using other = await openTransaction(database)
  await flush(other.client)
  await storeClosedMarks(pool, [ids[0]!])
  await flushWithoutWaiting(database)
  await other.client.query('COMMIT')
  await storeClosedMarks(pool, [ids[0]!])
  assert.equal((await flush(pool)).refused, 1)
  assert.equal((await pool.query('SELECT FROM set_aside_usage')).rowCount, 1)
})

/** Flushes once. Each wait for a lock is an error, at once. */
async function flushWithoutWaiting(database: TestDatabase): Promise<FlushResult> {
  await using own = await openTransaction(database)
  await own.client.query("SET LOCAL lock_timeout = '1ms'")
  const result = await flush(own.client)
  await own.client.query('COMMIT')
  return result
}

test('a flush gives up on a table that is locked, keeps every mark in place, and accuses no workspace', async () => {
  const database = await createTestDatabase()
  const { pool } = database
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!])
  await using host = await openTransaction(database)
  await host.client.query('LOCK TABLE workspaces IN EXCLUSIVE MODE')
  await assert.rejects(flush(pool), { code: '55P03' })
  await host.client.query('COMMIT')
  assert.equal((await pool.query('SELECT FROM refused_usage')).rowCount, 0)
  assert.equal((await flush(pool)).flushed, 1)
})

test("a host's own, lower lock_timeout stays, and after a flush in its transaction all its settings are as they were", async () => {
  const { pool } = await createTestDatabase()
  const client = await pool.connect()
  await client.query('BEGIN')
  await client.query("SET LOCAL lock_timeout = '40ms'; SET LOCAL statement_timeout = '7s'")
  const settings = () =>
    client.query(`SELECT name, setting FROM pg_settings
      WHERE name IN ('lock_timeout', 'statement_timeout', 'row_security', 'enable_seqscan', 'jit') ORDER BY name`)
  const before = (await settings()).rows
  await flush(client)
  assert.deepEqual((await settings()).rows, before)
  await client.query('ROLLBACK')
  client.release()
})
