import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { createTestDatabase } from '../support/database.ts'
import { startWorker } from '../support/flush-worker.ts'
import { flushJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'

test('a worker of another interval that takes a job keeps the chain of the interval in force, and says so once', async () => {
  const database = await createTestDatabase()
  const { pool } = database
  const slow = collectLog()
  await using _slow = await startWorker(database, slow, { flushIntervalSeconds: 120 })
  {
    const fast = collectLog()
    await using _fast = await startWorker(database, fast, { flushIntervalSeconds: 1 })
    assert.deepEqual(
      fast.find('sets another flush interval').map(({ fields }) => fields),
      [{ flushIntervalSeconds: 1, before: 120 }],
    )
    await completed(1)
  }
  // Only the worker of two minutes is left.
  await completed((await flushJobs(pool)).length + 3)
  assert.deepEqual(
    slow.find('another flush interval is in force').map(({ level, fields }) => [level, fields]),
    [['warn', { flushIntervalSeconds: 120, inForce: 1 }]],
  )

  async function completed(count: number): Promise<void> {
    await until(
      `${count} jobs are completed`,
      async () => (await flushJobs(pool)).filter(({ state }) => state === 'completed').length >= count,
      { timeoutMs: 20_000 },
    )
  }
})

test('the chain of a short interval ends when a worker sets a long one', async () => {
  const database = await createTestDatabase()
  const { pool } = database
  const log = collectLog()
  await using _fast = await startWorker(database, log, { flushIntervalSeconds: 1 })
  {
    await using _slow = await startWorker(database, collectLog(), { flushIntervalSeconds: 3_600 })
  }
  await until('no job waits any more', async () =>
    (await flushJobs(pool)).every(({ state }) => state === 'completed'),
  )
  assert.deepEqual(
    log.find('another flush interval is in force').map(({ fields }) => fields),
    [{ flushIntervalSeconds: 1, inForce: 3_600 }],
  )
  const { rows } = await pool.query('SELECT cron, data FROM pgboss.schedule WHERE name = $1', [FLUSH_QUEUE])
  assert.deepEqual(rows, [{ cron: '0 * * * *', data: { intervalSeconds: 3_600 } }])
})
