import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { closeFlushGate } from '../support/flush-gate.ts'
import { startWorker } from '../support/flush-worker.ts'
import { startWaitingJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'

test('a flush that exceeds its time limit is cancelled and logged as a warning, then as an error, and its marks stay pending', async () => {
  await holdsTheLimit(await createTestDatabase())
})

test('the time limit of a flush also holds on PostgreSQL 15, which has no transaction_timeout', async t => {
  await onPostgres15(t, holdsTheLimit)
})

async function holdsTheLimit(database: TestDatabase): Promise<void> {
  const { pool } = database
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!])
  const gate = await closeFlushGate(database)
  const log = collectLog()
  await using _worker = await startWorker(database, log, {
    flushIntervalSeconds: 1,
    flushTimeoutSeconds: 0.2,
  })
  const failures = () => log.lines.filter(({ level }) => level === 'warn' || level === 'error')
  await until('two flushes have failed', async () => {
    await startWaitingJobs(pool)
    return failures().length >= 2
  })
  const [first, second] = failures()
  assert.deepEqual([first!.level, first!.fields.consecutiveErrors], ['warn', undefined])
  assert.deepEqual([second!.level, second!.fields.consecutiveErrors], ['error', 2])
  // query_canceled: the server ended the statement and kept the session.
  assert.deepEqual(
    failures().map(({ fields }) => (fields.err as { code?: string }).code),
    failures().map(() => '57014'),
  )
  assert.equal(await pendingCount(pool), 1)
  await gate.open()
  await until('the mark is flushed after all', async () => {
    await startWaitingJobs(pool)
    return (await pendingCount(pool)) === 0
  })
}
