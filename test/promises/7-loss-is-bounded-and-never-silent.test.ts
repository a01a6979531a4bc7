/*
 * Promise 7: Loss is bounded, and never silent. pending_usage is UNLOGGED: kept over a clean restart, emptied by a crash
 * of the server and on a promoted standby. The witness row, which is lost with it, shows that.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { flush } from '../../src/flush/flush.ts'
import { noticeReset } from '../../src/flush/reset.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { flushJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { startServer } from '../support/server.ts'
import { startStandby, untilCaughtUp } from '../support/standby.ts'
import { urlOf } from '../support/template.ts'

const server = await startServer()
const database = await createTestDatabase({ on: server.connectionString })
const { pool } = database

test('a clean restart loses nothing, a crash loses only what was pending, and the worker reports the loss once', async () => {
  const [flushed, pending] = await createWorkspaces(pool, 2)
  const options = { database: database.connectionString, flushIntervalSeconds: 1 }
  const log = collectLog()
  const told = () => log.find('pending_usage was emptied')
  const nothingToFlush = async () => {
    const before = log.find('nothing to flush').length
    await until('another flush has run', () => log.find('nothing to flush').length > before)
  }

  const usedAt = await storeClosedMarks(pool, [flushed!])
  const worker = await startFlushWorker({ ...options, logger: log.logger })
  await until('the first mark is flushed', async () => (await pendingCount(pool)) === 0)
  await worker.stop()

  await storeClosedMarks(pool, [pending!], { agoMs: -3_600_000 })
  await server.restart()
  assert.equal(await pendingCount(pool), 1)
  await using survivor = await startFlushWorker({ ...options, logger: log.logger })
  await nothingToFlush()
  assert.deepEqual(told(), [])

  await server.crash()
  // If the crash took the job that was to send the next one, the schedule of every minute sends it.
  await until('the loss is told', () => told().length === 1, { timeoutMs: 90_000 })
  assert.equal(await pendingCount(pool), 0)
  assert.deepEqual(await lastUsedAt(pool, [flushed!, pending!]), [usedAt, null])
  const outputs = (await flushJobs(pool)).map(({ output }) => output).filter(output => output?.emptied)
  assert.equal(outputs.length, 1)
  assert.equal(outputs[0]!.reset!.reason, 'crash')
  assert.match(outputs[0]!.reset!.completeSince, /Z$/)
  await nothingToFlush()
  assert.equal(told().length, 1)
  assert.equal(told()[0]!.level, 'warn')
  assert.match(told()[0]!.message, /by a crash of the server/)
  await survivor.stop()
})

test('a promoted standby has lost only what was pending, and its witness reports the loss once', async () => {
  const [flushed, pending] = await createWorkspaces(pool, 2)
  const usedAt = await storeClosedMarks(pool, [flushed!])
  await flush(pool)
  assert.equal(await noticeReset(pool), null)
  await storeClosedMarks(pool, [pending!])

  const standby = await startStandby(server)
  const promoted = new pg.Pool({ connectionString: urlOf(standby.connectionString, database.name), max: 1 })
  try {
    await untilCaughtUp(pool, promoted)
    await promoted.query('SELECT pg_promote()')
    assert.equal(await pendingCount(pool), 1)
    assert.equal(await pendingCount(promoted), 0)
    assert.deepEqual(await lastUsedAt(promoted, [flushed!, pending!]), [usedAt, null])
    assert.equal((await noticeReset(promoted))?.reason, 'promotion')
    assert.equal(await noticeReset(promoted), null)
  } finally {
    await promoted.end()
  }
})
