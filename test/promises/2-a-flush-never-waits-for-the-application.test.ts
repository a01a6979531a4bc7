/*
 * Promise 2: A flush never waits for the application, and never deadlocks with it. Workspaces that another transaction
 * holds are skipped, and their marks stay pending for the next flush.
 */

import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { giveUpWaitingForLocks } from '../support/locks.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { shuffled } from '../support/shuffled.ts'
import { openTransaction } from '../support/transaction.ts'

const database = await createTestDatabase()
await giveUpWaitingForLocks(database)
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('a flush holds the marks of a workspace that another transaction has locked, and flushes them once it is free', async () => {
  const ids = await createWorkspaces(pool, 10_000)
  const periodEnd = await storeClosedMarks(pool, ids)
  const locked = ids[5_000]!
  await using application = await openTransaction(database)
  await application.client.query('UPDATE workspaces SET last_used_at = NULL WHERE id = $1', [locked])

  const { flushed, updated, unknown, held } = await flush(pool, { batchSize: 10_000 })
  assert.deepEqual(
    { flushed, updated, unknown, held },
    { flushed: 9_999, updated: 9_999, unknown: 0, held: 1 },
  )
  const { rows } = await pool.query('SELECT workspace_id FROM pending_usage')
  assert.deepEqual(rows, [{ workspace_id: locked }])

  await application.client.query('COMMIT')
  assert.equal((await flush(pool)).updated, 1)
  assert.deepEqual(await lastUsedAt(pool, [locked]), [periodEnd])
})

test('held marks do not stop a drain from flushing the marks behind them', { timeout: 30_000 }, async () => {
  const ids = await createWorkspaces(pool, 40)
  await storeClosedMarks(pool, ids, { agoMs: 60_000 })
  const held = ids.slice(0, 25)
  await storeClosedMarks(pool, held, { agoMs: 1_000 })
  await using application = await openTransaction(database)
  await application.client.query('SELECT FROM workspaces WHERE id = ANY ($1) FOR UPDATE', [held])
  const result = await drain(pool, { batchSize: 10 })
  assert.equal(result.flushed, 15)
  assert.equal(await pendingCount(pool), 50)
})

test('flushes do not deadlock with an application that writes many workspaces in any order', async () => {
  const ids = await createWorkspaces(pool, 1_000)
  let flushing = true
  const writers = Array.from({ length: 3 }, async (_, writer) => {
    const client = await database.connect()
    let deadlocks = 0
    while (flushing) {
      await client.query('BEGIN')
      // A deadlock needs writes of one row after the other, each time in another order. Each writer has its own
      // rows, so that the writers can't deadlock with each other.
      const own = ids.filter((_, index) => index % 3 === writer)
      for (const id of shuffled(own).slice(0, 20)) {
        await client.query('UPDATE workspaces SET id = id WHERE id = $1', [id]).catch(error => {
          assert.equal(error.code, '40P01')
          deadlocks += 1
        })
      }
      await client.query('COMMIT')
    }
    return deadlocks
  })
  try {
    for (let round = 0; round < 40; round++) {
      await storeClosedMarks(pool, shuffled(ids), { source: `round ${round}` })
      await Promise.all([drain(pool, { batchSize: 300 }), drain(pool, { batchSize: 200 })])
    }
  } finally {
    flushing = false
  }
  assert.deepEqual(await Promise.all(writers), [0, 0, 0])
  await drain(pool)
  assert.equal(await pendingCount(pool), 0)
})
