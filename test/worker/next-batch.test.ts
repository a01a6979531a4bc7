import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createTestDatabase } from '../support/database.ts'
import { startWorker } from '../support/flush-worker.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'

const BATCH = 10

test('a full batch does not wait for another worker that is sending the next one', async () => {
  const database = await createTestDatabase()
  const { pool } = database
  await using other = await openTransaction(database)
  assert.equal((await other.client.query(NEXT_BATCH)).rowCount, 1)
  const ids = await createWorkspaces(pool, 2 * BATCH)
  const log = collectLog()
  await using _worker = await startWorker(database, log, { flushIntervalSeconds: 1, batchSize: BATCH })
  await storeClosedMarks(pool, ids)
  await until('all marks are flushed', async () => (await pendingCount(pool)) === 0, { timeoutMs: 20_000 })
  assert.deepEqual(log.find('flush failed'), [])
  await other.client.query('ROLLBACK')
})

/** As another worker leaves it that has sent the next batch in a transaction, and stands still. */
const NEXT_BATCH = `
  INSERT INTO pgboss.job (name, singleton_key, policy, data, start_after)
  SELECT name, 'drain', policy, '{}', now() + interval '1 hour' FROM pgboss.queue WHERE name = 'workspace-usage-flush'`
