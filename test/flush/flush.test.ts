import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

const { pool, kysely } = await createTestDatabase()

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('null becomes the end of the period', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const periodEnd = await storeClosedMarks(pool, [id!])
  const result = await flush(pool)
  assert.deepEqual(result, {
    flushed: 1,
    workspaces: 1,
    updated: 1,
    unknown: 0,
    held: 0,
    full: false,
    resume: null,
  })
  assert.deepEqual(await lastUsedAt(pool, [id!]), [periodEnd])
  assert.equal(await pendingCount(pool), 0)
})

test('an id marked in two periods is updated once, to the later end', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!], { agoMs: 31_000 })
  const later = await storeClosedMarks(pool, [id!], { agoMs: 1_000 })
  const { flushed, workspaces, updated } = await flush(pool)
  assert.deepEqual({ flushed, workspaces, updated }, { flushed: 2, workspaces: 1, updated: 1 })
  assert.deepEqual(await lastUsedAt(pool, [id!]), [later])
})

test('the open period is not flushed', async () => {
  const [id] = await createWorkspaces(pool, 1)
  // Of a length that outlasts this test; a period of 30 s might end in the middle of it.
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id) VALUES (now() + interval '1 h', $1)`,
    [id],
  )
  assert.equal((await flush(pool)).flushed, 0)
  assert.deepEqual(await lastUsedAt(pool, [id!]), [null])
  assert.equal(await pendingCount(pool), 1)
})

test('a period that closed a millisecond ago is flushed', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const periodEnd = await storeClosedMarks(pool, [id!], { agoMs: 1 })
  assert.equal((await flush(pool)).flushed, 1)
  assert.deepEqual(await lastUsedAt(pool, [id!]), [periodEnd])
})

test('last_used_at never moves back: an older and an equal period only delete their marks', async () => {
  const ids = await createWorkspaces(pool, 2)
  const { rows } = await pool.query(
    `UPDATE workspaces SET last_used_at = date_trunc('milliseconds', now()) - interval '10 s'
     RETURNING last_used_at`,
  )
  const before = rows[0].last_used_at
  await storeClosedMarks(pool, [ids[0]!], { agoMs: 60_000 })
  await pool.query('INSERT INTO pending_usage SELECT last_used_at, id, $2 FROM workspaces WHERE id = $1', [
    ids[1],
    'equal',
  ])
  const { flushed, workspaces, updated } = await flush(pool)
  assert.deepEqual({ flushed, workspaces, updated }, { flushed: 2, workspaces: 2, updated: 0 })
  assert.deepEqual(await lastUsedAt(pool, ids), [before, before])
  assert.equal(await pendingCount(pool), 0)
})

test('marks of workspaces that do not exist are consumed and counted', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!, randomUUID(), randomUUID()])
  const { flushed, workspaces, updated, unknown, held } = await flush(pool)
  assert.deepEqual(
    { flushed, workspaces, updated, unknown, held },
    { flushed: 3, workspaces: 1, updated: 1, unknown: 2, held: 0 },
  )
  assert.equal(await pendingCount(pool), 0)
})

test('use by source is kept, the newest of each', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!], { agoMs: 90_000, source: 'ssh' })
  const ssh = await storeClosedMarks(pool, [id!], { agoMs: 60_000, source: 'ssh' })
  await flush(pool)
  const vscode = await storeClosedMarks(pool, [id!], { agoMs: 30_000, source: 'vscode' })
  await storeClosedMarks(pool, [id!], { agoMs: 95_000, source: 'ssh' })
  await flush(pool)
  const { rows } = await pool.query(
    `SELECT source, date_trunc('milliseconds', last_used_at) AS used FROM workspace_usage ORDER BY source`,
  )
  assert.deepEqual(rows, [
    { source: 'ssh', used: ssh },
    { source: 'vscode', used: vscode },
  ])
})

test('without sources, workspace_usage stays empty and last_used_at is set all the same', async () => {
  const ids = await createWorkspaces(pool, 3)
  const periodEnd = await storeClosedMarks(pool, ids)
  assert.equal((await flush(pool, { sources: false })).updated, 3)
  assert.deepEqual(await lastUsedAt(pool, ids), [periodEnd, periodEnd, periodEnd])
  const { rows } = await pool.query('SELECT FROM workspace_usage')
  assert.equal(rows.length, 0)
})

test('a batch takes the newest period first, so that the first batch sets the final value', async () => {
  const ids = await createWorkspaces(pool, 5)
  await storeClosedMarks(pool, ids, { agoMs: 60_000 })
  const newest = await storeClosedMarks(pool, ids, { agoMs: 1_000 })
  const first = await flush(pool, { batchSize: 5 })
  assert.deepEqual([first.flushed, first.updated, first.full], [5, 5, true])
  assert.deepEqual(await lastUsedAt(pool, ids), Array(5).fill(newest))
  const second = await flush(pool, { batchSize: 6 })
  assert.deepEqual([second.flushed, second.updated, second.full], [5, 0, false])
})

test('runs on a Kysely instance, and inside its transaction', async () => {
  const ids = await createWorkspaces(pool, 2)
  const periodEnd = await storeClosedMarks(pool, ids)
  const rolledBack = kysely.transaction().execute(async transaction => {
    assert.equal((await flush(transaction)).updated, 2)
    throw new Error('rolled back')
  })
  await assert.rejects(rolledBack, /rolled back/)
  assert.deepEqual(await lastUsedAt(pool, ids), [null, null])
  assert.equal((await flush(kysely)).updated, 2)
  assert.deepEqual(await lastUsedAt(pool, ids), [periodEnd, periodEnd])
})

test('a drain flushes until nothing is due, and adds up', async () => {
  const ids = await createWorkspaces(pool, 350)
  await storeClosedMarks(pool, ids)
  const flushes: number[] = []
  const result = await drain(pool, { batchSize: 100, onFlush: ({ flushed }) => flushes.push(flushed) })
  assert.deepEqual(flushes, [100, 100, 100, 50])
  assert.deepEqual(result, { flushes: 4, flushed: 350, workspaces: 350, updated: 350, unknown: 0, held: 0 })
})
