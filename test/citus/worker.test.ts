import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { flushedByJobs, flushJobs } from '../support/jobs.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, storeClosedMarks } from '../support/seed.ts'
import { withClusterDatabase } from './support/cluster-database.ts'

const QUIET = { debug() {}, info() {}, warn() {}, error() {} }

await withClusterDatabase({}, database => {
  const { pool, connectionString } = database
  test('a worker on the coordinator flushes all shards, batch after batch, and its jobs have the counts', async () => {
    const ids = await createWorkspaces(pool, 400)
    const periodEnd = await storeClosedMarks(pool, ids)
    const worker = await startFlushWorker({
      database: connectionString,
      logger: QUIET,
      flushIntervalSeconds: 1,
      batchSize: 10,
    })
    try {
      await until('all marks are flushed', () => flushedByJobs(pool), {
        accept: flushed => flushed === ids.length,
        timeoutMs: 30_000,
      })
    } finally {
      await worker.stop()
    }
    const times = await lastUsedAt(pool, ids)
    assert.ok(times.every(time => time?.getTime() === periodEnd.getTime()))
    const outputs = (await flushJobs(pool)).map(({ output }) => output).filter(output => output !== null)
    assert.ok(outputs.some(({ full }) => full))
    assert.ok(outputs.every(output => !('shardsLeft' in output)))
  })
})
