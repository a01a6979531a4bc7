/*
 * Promise 3: A mark is consumed exactly once, in the transaction that updates its workspace and completes the pg-boss
 * job. Whatever fails (worker killed, statement cancelled, connection cut), the marks are still pending.
 */

import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { closeFlushGate } from '../support/flush-gate.ts'
import { startWorker } from '../support/flush-worker.ts'
import { flushedByJobs, flushJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { startWorkerProcess } from '../support/worker-process.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
  await pool.query('DELETE FROM pgboss.job WHERE name = $1', [FLUSH_QUEUE])
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
    // PostgreSQL reports the error before it rolls back.
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

test('four drains at the same time consume every mark exactly once', async () => {
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

test('two workers and drains by hand consume every mark exactly once', async () => {
  const ids = await createWorkspaces(pool, 2_000)
  const sources = ['ssh', 'vscode', 'jetbrains', 'port-forward']
  for (const source of sources) await storeClosedMarks(pool, ids, { source })
  const total = ids.length * sources.length
  const log = collectLog()
  const options = { database: pool, logger: log.logger, flushIntervalSeconds: 1, batchSize: 150 }
  let byHand = 0
  {
    await using _one = await startFlushWorker(options)
    await using _two = await startFlushWorker(options)
    while ((await pendingCount(pool)) > 0) byHand += (await drain(pool, { batchSize: 100 })).flushed
  }
  assert.equal(byHand + (await flushedByJobs(pool)), total)
  assert.ok((await lastUsedAt(pool, ids)).every(used => used !== null))
  assert.deepEqual(
    log.lines.filter(({ level }) => level === 'warn' || level === 'error'),
    [],
  )
  const { rows } = await pool.query(
    'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
  )
  assert.equal(Number(rows[0].deadlocks), 0)
})

test('a flush commits together with the completion of its job or not at all, and is logged only after the commit', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!])
  const gate = await closeFlushGate(database)
  const log = collectLog()
  await using _worker = await startWorker(database, log, { flushIntervalSeconds: 3_600 })
  await gate.untilReached()
  // The job is cancelled while its flush runs, so it can't be completed.
  await pool.query(`UPDATE pgboss.job SET state = 'cancelled' WHERE name = $1 AND state = 'active'`, [
    FLUSH_QUEUE,
  ])
  await gate.open()
  await until('the failure is told', () => log.lines.some(({ level }) => level === 'warn'))
  assert.equal(await pendingCount(pool), 1)
  assert.deepEqual(await lastUsedAt(pool, [id!]), [null])
  assert.deepEqual(log.find('updated workspaces last_used_at'), [])
})

test('a worker that is killed in the middle of a flush loses no mark, and another worker does not wait for its job to expire', async () => {
  const ids = await createWorkspaces(pool, 100)
  const periodEnd = await storeClosedMarks(pool, ids)
  const gate = await closeFlushGate(database)
  const killed = startWorkerProcess(database)
  await gate.untilReached()
  killed.kill('SIGKILL')
  await killed.exited
  assert.equal(await pendingCount(pool), 100)

  const other = startWorkerProcess(database)
  await other.line(/worker started/)
  await gate.open()
  await until('the marks are flushed', async () => (await pendingCount(pool)) === 0)
  assert.deepEqual(await lastUsedAt(pool, ids), Array(100).fill(periodEnd))
  const jobs = await flushJobs(pool)
  assert.deepEqual(
    jobs.filter(({ state }) => state === 'active').map(({ id }) => id),
    [jobs[0]!.id],
    'the job of the killed worker still counts as active',
  )
  other.kill('SIGTERM')
  assert.deepEqual(await other.exited, { code: 0, signal: null })
})
