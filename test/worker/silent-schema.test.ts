import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inSchema } from '../../src/database/in-schema.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { heardPool } from '../support/heard-pool.ts'
import { createDatabaseWithSchemas, OWN_SCHEMA, ownClient } from '../support/hostile-path.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'

test("a worker on the host's pool in a schema replaces connections that went silent, and stops in bounded time", async () => {
  const database = await createDatabaseWithSchemas()
  const own = await ownClient(database)
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const pool = heardPool({ connectionString: proxy.connectionString, max: 5, idleTimeoutMillis: 0 })
  const { logger } = collectLog()
  const worker = await startFlushWorker({
    ...{ database: inSchema(pool, OWN_SCHEMA), logger, flushIntervalSeconds: 1, flushTimeoutSeconds: 0.5 },
  })
  const ids = await createWorkspaces(own, 2)
  await storeClosedMarks(own, [ids[0]!])
  await until('a flush', async () => (await pendingCount(own)) === 0)
  proxy.silence()
  await storeClosedMarks(own, [ids[1]!])
  await until('a flush on a new connection', async () => (await pendingCount(own)) === 0, {
    timeoutMs: 30_000,
  })
  await until('the silent ones are closed', () => proxy.silentAndOpen === 0, { timeoutMs: 30_000 })
  proxy.silence('silent')
  await worker.stop()
  assert.equal((await worker.liveness()).alive, false)
  await pool.end()
})
