import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { explainUsage } from '../../src/activity/explain.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { untilBlocked } from '../support/locks.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

/** So that marks of a workspace that does not exist are consumed at once. */
const NOT_AWAITED = { unknownAfterSeconds: 0 }

test('marks of a workspace that is deleted while they are pending are consumed as unknown, and nothing of the workspace is left', async () => {
  const [gone, stays] = await createWorkspaces(pool, 2)
  await storeClosedMarks(pool, [gone!, stays!], { agoMs: 60_000 })
  await flush(pool, NOT_AWAITED)
  const periodEnd = await storeClosedMarks(pool, [gone!, stays!])
  await pool.query('DELETE FROM workspaces WHERE id = $1', [gone])

  assert.equal((await explainUsage(pool, gone!)).exists, false)
  const { flushed, unknown, updated, held } = await flush(pool, NOT_AWAITED)
  assert.deepEqual({ flushed, unknown, updated, held }, { flushed: 2, unknown: 1, updated: 1, held: 0 })
  assert.deepEqual(await lastUsedAt(pool, [stays!]), [periodEnd])
  const { rows } = await pool.query('SELECT workspace_id FROM workspace_usage')
  assert.deepEqual(rows, [{ workspace_id: stays }])
})

test('marks of a workspace that an open transaction has deleted are held, and consumed as unknown once it commits', async () => {
  const [gone] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [gone!])
  const application = await database.connect()
  await application.query('BEGIN')
  await application.query('DELETE FROM workspaces WHERE id = $1', [gone])
  assert.equal((await flush(pool, NOT_AWAITED)).held, 1)
  await application.query('COMMIT')
  const { flushed, unknown } = await flush(pool, NOT_AWAITED)
  assert.deepEqual({ flushed, unknown }, { flushed: 1, unknown: 1 })
})

test('the deletion of a workspace during its flush follows the flush, and also deletes what the flush has stored', async () => {
  const ids = await createWorkspaces(pool, 2)
  await storeClosedMarks(pool, ids)
  const [flusher, application] = [await database.connect(), await database.connect()]
  await flusher.query('BEGIN')
  assert.equal((await flush(flusher)).updated, 2)
  const deleting = application.query('DELETE FROM workspaces WHERE id = $1', [ids[0]])
  assert.deepEqual(await untilBlocked(pool, application.processID), [flusher.processID])
  await flusher.query('COMMIT')
  assert.equal((await deleting).rowCount, 1)
  const { rows } = await pool.query('SELECT workspace_id FROM workspace_usage')
  assert.deepEqual(rows, [{ workspace_id: ids[1] }])
  assert.equal(await pendingCount(pool), 0)
})

test('the deletion of a workspace during its flush also succeeds if that flush fails, and the marks stay pending', async () => {
  const [gone] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [gone!])
  const [flusher, application] = [await database.connect(), await database.connect()]
  await flusher.query('BEGIN')
  await flush(flusher)
  const deleting = application.query('DELETE FROM workspaces WHERE id = $1', [gone])
  await untilBlocked(pool, application.processID)
  await flusher.query('ROLLBACK')
  await deleting
  assert.equal((await flush(pool, NOT_AWAITED)).unknown, 1)
  assert.equal(await pendingCount(pool), 0)
})
