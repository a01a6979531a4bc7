import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { activityOf } from '../support/activity.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

const { pool, kysely } = await createTestDatabase()

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('workspace_activity shows a workspace that was never used with neither a time nor a source', async () => {
  const [id] = await createWorkspaces(pool, 1)
  assert.deepEqual(await activityOf(pool, id!), { last_used_at: null, source: null, pending: false })
})

test('workspace_activity shows the newest pending use, and the source that is first by name if two have the same period', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!], { agoMs: 60_000, source: 'a' })
  const newest = await storeClosedMarks(pool, [id!], { agoMs: 1_000, source: 'ssh' })
  await pool.query(
    `INSERT INTO pending_usage
    SELECT period_end, workspace_id, 'jetbrains' FROM pending_usage WHERE source = 'ssh'`,
  )
  assert.deepEqual(await activityOf(pool, id!), { last_used_at: newest, source: 'jetbrains', pending: true })
  await flush(pool)
  assert.deepEqual(await activityOf(pool, id!), { last_used_at: newest, source: 'jetbrains', pending: false })
})

test('workspace_activity does not show a pending use that is not newer than the flushed one', async () => {
  const ids = await createWorkspaces(pool, 2)
  const flushed = await storeClosedMarks(pool, ids, { agoMs: 30_000, source: 'ssh' })
  await flush(pool)
  await storeClosedMarks(pool, [ids[0]!], { agoMs: 60_000, source: 'late' })
  await pool.query(
    `INSERT INTO pending_usage SELECT last_used_at, id, 'late' FROM workspaces WHERE id = $1`,
    [ids[1]],
  )
  for (const id of ids) {
    assert.deepEqual(await activityOf(pool, id), { last_used_at: flushed, source: 'ssh', pending: false })
  }
})

test('workspace_activity shows no source if something else wrote last_used_at, or if sources are not kept', async () => {
  const ids = await createWorkspaces(pool, 2)
  await storeClosedMarks(pool, ids, { agoMs: 60_000, source: 'ssh' })
  await flush(pool)
  const { rows } = await pool.query(
    `UPDATE workspaces SET last_used_at = '2020-01-01' WHERE id = $1 RETURNING last_used_at`,
    [ids[0]],
  )
  const newer = await storeClosedMarks(pool, [ids[1]!], { agoMs: 30_000, source: 'ssh' })
  await flush(pool, { sources: false })
  assert.deepEqual(await activityOf(pool, ids[0]!), { ...rows[0], source: null, pending: false })
  assert.deepEqual(await activityOf(pool, ids[1]!), { last_used_at: newer, source: null, pending: false })
})

test('workspace_activity has one row for each workspace, and none for an id that is only marked', async () => {
  const ids = await createWorkspaces(pool, 3)
  for (const source of ['ssh', 'vscode']) {
    await storeClosedMarks(pool, [ids[0]!, ids[1]!, randomUUID()], { agoMs: 60_000, source })
  }
  await flush(pool)
  await storeClosedMarks(pool, [ids[0]!, randomUUID()], { source: 'web' })
  const rows = await kysely
    .selectFrom('workspace_activity')
    .select(['workspace_id', 'source', 'pending'])
    .orderBy('workspace_id')
    .execute()
  assert.deepEqual(rows, [
    { workspace_id: ids[0], source: 'web', pending: true },
    { workspace_id: ids[1], source: 'vscode', pending: false },
    { workspace_id: ids[2], source: null, pending: false },
  ])
})
