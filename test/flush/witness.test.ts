import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { flushJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { startServer } from '../support/server.ts'

test('what a crash of the server took is told once, a clean restart takes nothing, and workspaces is intact', async () => {
  const server = await startServer()
  const database = await createTestDatabase({ on: server.connectionString })
  const { pool } = database
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
  await until('the loss is told', () => told().length === 1, { timeoutMs: 20_000 })
  assert.equal(await pendingCount(pool), 0)
  assert.deepEqual(await lastUsedAt(pool, [flushed!, pending!]), [usedAt, null])
  assert.equal((await flushJobs(pool)).filter(({ output }) => output?.emptied).length, 1)
  await nothingToFlush()
  assert.equal(told().length, 1)
  assert.equal(told()[0]!.level, 'warn')
  await survivor.stop()
})
