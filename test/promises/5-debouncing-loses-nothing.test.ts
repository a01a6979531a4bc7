/*
 * Promise 5: Debouncing in a client loses nothing. A row stored for the open period cannot be flushed before that
 * period ends, so a repeated mark in the same period changes nothing and need not leave the process.
 * (test/soak/tracker-exactness.test.ts shows the same for longer, and through failures.)
 */

import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { flush } from '../../src/flush/flush.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { createTestDatabase } from '../support/database.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { noteStatements } from '../support/statements.ts'

const { pool } = await createTestDatabase()

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('a flush does not consume marks of the open period', async () => {
  const [id] = await createWorkspaces(pool, 1)
  // One hour outlasts this test. A period of 30 s might end in the middle of it.
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id) VALUES (now() + interval '1 h', $1)`,
    [id],
  )
  assert.equal((await flush(pool)).flushed, 0)
  assert.deepEqual(await lastUsedAt(pool, [id!]), [null])
  assert.equal(await pendingCount(pool), 1)
})

test('a flush consumes marks of a period that closed a millisecond ago', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const periodEnd = await storeClosedMarks(pool, [id!], { agoMs: 1 })
  assert.equal((await flush(pool)).flushed, 1)
  assert.deepEqual(await lastUsedAt(pool, [id!]), [periodEnd])
})

test('a tracker sends few of the marks, and no last_used_at is earlier than the last mark of the workspace', async () => {
  const [periodMs, durationMs] = [300, 1_500]
  await setPeriodLength(pool, periodMs / 1_000)
  const ids = await createWorkspaces(pool, 200)
  const db = noteStatements(pool)
  const tracker = new UsageTracker(db)
  const start = Date.now()
  const lastMarks = new Map<string, number>()
  let marking = true
  const flushing = (async () => {
    while (marking) await flush(pool)
  })()
  // Workspaces fall out of use one after the other, so that there are last marks at any time within a period.
  while (Date.now() < start + durationMs) {
    const used = ids.slice(Math.floor((ids.length * (Date.now() - start)) / durationMs))
    for (const id of used) {
      lastMarks.set(id, Date.now())
      tracker.mark(id)
    }
    await delay(1)
  }
  marking = false
  await flushing
  const { marked } = tracker.stats()
  assert.deepEqual(await tracker.close(), { left: 0 })
  await until('all marks are flushed', async () => {
    await flush(pool)
    return (await pendingCount(pool)) === 0
  })

  for (const [index, usedAt] of (await lastUsedAt(pool, ids)).entries()) {
    const early = lastMarks.get(ids[index]!)! - usedAt!.getTime()
    assert.ok(early <= 0, `${ids[index]} seems used ${early} ms before its last mark`)
  }
  const sent = db.sent.reduce((sum, statement) => sum + statement.ids.length, 0)
  assert.ok(marked > 5 * sent, `${marked} marks, of which ${sent} were sent, prove little`)
})
