/*
 * Promise 3: A mark is consumed exactly once, in the transaction that updates its workspace and completes the pg-boss
 * job. Whatever fails (worker killed, statement cancelled, connection cut), the marks are still pending.
 */

import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { closeFlushGate } from '../support/flush-gate.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

const failures = {
  'whose statement is cancelled in the middle': 'SELECT pg_cancel_backend($1)',
  'whose connection is cut in the middle': 'SELECT pg_terminate_backend($1)',
}
for (const [failure, bringAbout] of Object.entries(failures)) {
  test(`a flush ${failure} changes nothing, and the next flush consumes its marks`, async t => {
    const ids = await createWorkspaces(pool, 20)
    const periodEnd = await storeClosedMarks(pool, ids)
    const gate = await closeFlushGate(database)
    t.after(() => gate.open())
    const flusher = await database.connect()
    const failed = assert.rejects(flush(flusher))
    await gate.untilReached()
    await pool.query(bringAbout, [flusher.processID])
    await failed
    // PostgreSQL tells of the error first, and rolls back then.
    await until('the flush is rolled back', async () => {
      const { rows } = await pool.query('SELECT FROM pg_locks WHERE pid = $1', [flusher.processID])
      return rows.length === 0
    })

    assert.equal(await pendingCount(pool), 20)
    assert.deepEqual(await lastUsedAt(pool, ids), Array(20).fill(null))
    await gate.open()
    const { flushed, updated } = await flush(pool)
    assert.deepEqual({ flushed, updated }, { flushed: 20, updated: 20 })
    assert.deepEqual(await lastUsedAt(pool, ids), Array(20).fill(periodEnd))
  })
}

test('drains at the same time consume every mark once', async () => {
  const ids = await createWorkspaces(pool, 500)
  for (const source of ['ssh', 'vscode', 'web']) await storeClosedMarks(pool, ids, { source })
  const drains = Array.from({ length: 4 }, (_, index) => drain(pool, { batchSize: 40 + index }))
  const flushed = (await Promise.all(drains)).map(result => result.flushed)
  // A drain leaves marks whose workspace another one holds at that moment.
  const rest = await drain(pool)
  assert.equal(
    flushed.reduce((sum, count) => sum + count, rest.flushed),
    1_500,
    `${flushed}`,
  )
  assert.equal(await pendingCount(pool), 0)
})
