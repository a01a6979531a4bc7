import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'

const database = await createTestDatabase()
const { pool, kysely } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('the first flush of a workspace sets last_used_at to the end of the period of its mark', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const periodEnd = await storeClosedMarks(pool, [id!])
  const result = await flush(pool)
  assert.deepEqual(result, {
    flushed: 1,
    workspaces: 1,
    updated: 1,
    unknown: 0,
    held: 0,
    awaited: 0,
    refused: 0,
    bySource: { test: 1 },
    refusals: [],
    emptied: false,
    reset: null,
    full: false,
  })
  assert.deepEqual(await lastUsedAt(pool, [id!]), [periodEnd])
  assert.equal(await pendingCount(pool), 0)
})

test('marks of workspaces that do not exist are consumed, and counted as unknown', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!, randomUUID(), randomUUID()])
  const { flushed, workspaces, updated, unknown, held } = await flush(pool, { unknownAfterSeconds: 0 })
  assert.deepEqual(
    { flushed, workspaces, updated, unknown, held },
    { flushed: 3, workspaces: 1, updated: 1, unknown: 2, held: 0 },
  )
  assert.equal(await pendingCount(pool), 0)
})

test('workspace_usage keeps the newest use of each source', async () => {
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

test('a flush without sources leaves workspace_usage empty and sets last_used_at all the same', async () => {
  const ids = await createWorkspaces(pool, 3)
  const periodEnd = await storeClosedMarks(pool, ids)
  assert.equal((await flush(pool, { sources: false })).updated, 3)
  assert.deepEqual(await lastUsedAt(pool, ids), [periodEnd, periodEnd, periodEnd])
  const { rows } = await pool.query('SELECT FROM workspace_usage')
  assert.equal(rows.length, 0)
})

test('a flush takes the newest period first, so that the first batch of a drain sets the final value', async () => {
  const ids = await createWorkspaces(pool, 5)
  await storeClosedMarks(pool, ids, { agoMs: 60_000 })
  const newest = await storeClosedMarks(pool, ids, { agoMs: 1_000 })
  const first = await flush(pool, { batchSize: 5 })
  assert.deepEqual([first.flushed, first.updated, first.full], [5, 5, true])
  assert.deepEqual(await lastUsedAt(pool, ids), Array(5).fill(newest))
  const second = await flush(pool, { batchSize: 6 })
  assert.deepEqual([second.flushed, second.updated, second.full], [5, 0, false])
})

test('a flush runs on a Kysely instance, and inside a Kysely transaction', async () => {
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

test('a drain flushes until nothing is due, and returns the sums of its flushes', async () => {
  const ids = await createWorkspaces(pool, 350)
  await storeClosedMarks(pool, ids)
  const flushes: number[] = []
  const result = await drain(pool, { batchSize: 100, onFlush: ({ flushed }) => flushes.push(flushed) })
  assert.deepEqual(flushes, [100, 100, 100, 50])
  assert.deepEqual(result, {
    ...{
      flushes: 4,
      flushed: 350,
      workspaces: 350,
      updated: 350,
      unknown: 0,
      held: 0,
      awaited: 0,
      refused: 0,
    },
    ...{ bySource: { test: 350 }, refusals: [], emptied: false, reset: null },
  })
})

test('a flush leaves a mark that is not committed yet, and a flush after the commit consumes it', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await using marker = await openTransaction(database)
  await storeClosedMarks(marker.client, [id!])
  assert.deepEqual(await flush(pool), {
    flushed: 0,
    workspaces: 0,
    updated: 0,
    unknown: 0,
    held: 0,
    awaited: 0,
    refused: 0,
    bySource: {},
    refusals: [],
    emptied: false,
    reset: null,
    full: false,
  })
  await marker.client.query('COMMIT')
  assert.equal((await flush(pool)).flushed, 1)
})
