import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('a mark of a workspace that is not committed yet is awaited, and flushed after the commit', async () => {
  const id = randomUUID()
  await using creation = await openTransaction(database)
  await creation.client.query('INSERT INTO workspaces (id) VALUES ($1)', [id])
  const periodEnd = await storeClosedMarks(pool, [id])
  for (const _ of ['first', 'second']) {
    const { flushed, awaited, unknown } = await flush(pool)
    assert.deepEqual({ flushed, awaited, unknown }, { flushed: 0, awaited: 1, unknown: 0 })
  }
  await creation.client.query('COMMIT')
  const { flushed, updated } = await flush(pool)
  assert.deepEqual({ flushed, updated }, { flushed: 1, updated: 1 })
  assert.deepEqual(await lastUsedAt(pool, [id]), [periodEnd])
  assert.equal(await pendingCount(pool), 0)
})

test('a mark of a workspace that does not exist is consumed as unknown when it is ten minutes old', async () => {
  const [young, old] = [randomUUID(), randomUUID()]
  await storeClosedMarks(pool, [young], { agoMs: 590_000 })
  await storeClosedMarks(pool, [old], { agoMs: 601_000 })
  const first = await flush(pool)
  assert.deepEqual([first.flushed, first.unknown, first.awaited], [1, 1, 1])
  await pool.query(`UPDATE set_aside_usage SET period_end = period_end - interval '11 s'`)
  const second = await flush(pool)
  assert.deepEqual([second.flushed, second.unknown, second.awaited], [1, 1, 0])
  assert.equal(await pendingCount(pool), 0)
})

test('a flood of marks of workspaces that do not exist does not keep an earlier mark waiting', async () => {
  const ids = await createWorkspaces(pool, 10)
  await storeClosedMarks(pool, ids, { agoMs: 60_000 })
  for (let batch = 0; batch < 20; batch++)
    await storeClosedMarks(
      pool,
      Array.from({ length: 100 }, () => randomUUID()),
    )
  let flushes = 0
  let flushedAfter = 0
  const result = await drain(pool, {
    batchSize: 100,
    onFlush: ({ updated }) => {
      flushes++
      if (updated > 0) flushedAfter ||= flushes
    },
  })
  assert.equal(result.updated, 10)
  assert.equal(flushedAfter, 2)
  assert.equal(await pendingCount(pool), 2_000)
})

test('awaited marks do not fill the batches of later flushes, and each flush looks at those that have waited longest', async () => {
  await storeClosedMarks(
    pool,
    Array.from({ length: 250 }, () => randomUUID()),
  )
  assert.equal((await drain(pool, { batchSize: 100 })).flushes, 3)
  const ids = await createWorkspaces(pool, 50)
  await storeClosedMarks(pool, ids, { agoMs: 30_000 })
  const next = await flush(pool, { batchSize: 100 })
  assert.deepEqual([next.flushed, next.awaited, next.full], [50, 100, false])
  const { rows } = await pool.query(
    'SELECT count(DISTINCT next_attempt_at)::int AS looks FROM set_aside_usage',
  )
  assert.ok(rows[0].looks >= 2)
})
