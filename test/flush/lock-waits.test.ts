import assert from 'node:assert/strict'
import { test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
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
      WHERE name IN ('lock_timeout', 'statement_timeout', 'row_security') ORDER BY name`)
  const before = (await settings()).rows
  await flush(client)
  assert.deepEqual((await settings()).rows, before)
  await client.query('ROLLBACK')
  client.release()
})
