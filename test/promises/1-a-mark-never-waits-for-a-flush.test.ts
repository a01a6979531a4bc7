/*
 * Promise 1: A mark never waits for a flush. The flush takes closed periods only, and marks go to the open one, so
 * the two never use the same key.
 */

import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { createTestDatabase } from '../support/database.ts'
import { giveUpWaitingForLocks, untilBlocked } from '../support/locks.ts'
import { CENTURY, setPeriodLength } from '../support/period.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'

const database = await createTestDatabase()
await giveUpWaitingForLocks(database)
const { pool } = database
// The open period must not end in the middle of a test.
await setPeriodLength(pool, CENTURY)

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('a mark of a workspace that an open transaction has flushed is stored at once', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!], { source: 'ssh' })
  await using flusher = await openTransaction(database)
  assert.equal((await flush(flusher.client)).flushed, 1)
  const { stored } = await markUsage(pool, id!, { source: 'ssh' })
  assert.equal(stored, 1)
})

test('a repeated mark returns at once while an open transaction has flushed everything due', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!], { source: 'ssh' })
  await markUsage(pool, id!, { source: 'ssh' })
  await using flusher = await openTransaction(database)
  assert.equal((await flush(flusher.client)).flushed, 1)
  const { stored } = await markUsage(pool, id!, { source: 'ssh' })
  assert.equal(stored, 0)
})

test('a mark waits for the flush if the workspace alone is the key of pending_usage', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await pool.query('CREATE UNLOGGED TABLE IF NOT EXISTS pending_by_workspace (workspace_id uuid PRIMARY KEY)')
  const mark = 'INSERT INTO pending_by_workspace (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING'
  await pool.query(mark, [id])
  const marker = await database.connect()
  await using flusher = await openTransaction(database)
  await flusher.client.query('DELETE FROM pending_by_workspace')
  const marking = marker.query(mark, [id])
  assert.deepEqual(await untilBlocked(pool, marker.processID), [flusher.client.processID])
  await flusher.client.query('COMMIT')
  await marking
})
