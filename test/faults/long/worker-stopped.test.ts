import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { PgBoss } from 'pg-boss'
import { FLUSH_QUEUE } from '../../../src/worker/queue.ts'
import { createTestDatabase, type TestDatabase } from '../../support/database.ts'
import { closeFlushGate } from '../../support/flush-gate.ts'
import { flushJobs } from '../../support/jobs.ts'
import { until } from '../../support/poll.ts'
import { onPostgres15 } from '../../support/postgres-15.ts'
import { type Program, startProgram } from '../../support/process.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../../support/seed.ts'
import { KeptMarks } from '../kept-marks.ts'

/*
 * A worker process stands still in the middle of a flush, as a paused virtual machine does, and goes on later. Its
 * connection stays open meanwhile, because the kernel still answers for it.
 */

const FLUSH_TIMEOUT = '3'

test('a worker that stands still past the expiry of its job does no harm when it goes on: all marks are flushed once', async t => {
  await standsStillPastExpiry(t, await createTestDatabase())
})

test('a worker that stands still past the expiry of its job does no harm when it goes on, on PostgreSQL 15', async t => {
  await onPostgres15(t, database => standsStillPastExpiry(t, database))
})

async function standsStillPastExpiry(t: TestContext, database: TestDatabase): Promise<void> {
  const { pool } = database
  const marks = await KeptMarks.start(database, 1)
  const stopped = await stopInFlush(database)
  const [held] = (await flushJobs(pool)).filter(({ state }) => state === 'active')
  await expire(database, held!.id)
  const other = startWorker(database)
  await until(
    'another worker has completed the job',
    async () => (await flushJobs(pool)).find(({ id }) => id === held!.id)?.state,
    { accept: state => state === 'completed', timeoutMs: 40_000 },
  )
  stopped.kill('SIGCONT')
  const since = performance.now()
  await stopped.line(/flush failed; its marks stay pending/)
  await marks.assertFlushedOnce(t, since)
  for (const worker of [stopped, other]) {
    worker.kill('SIGTERM')
    assert.deepEqual(await worker.untilExit({ timeoutMs: 20_000 }), { code: 0, signal: null })
  }
}

test('a worker that goes on before the server gives its transaction up commits its flush', async t => {
  const database = await createTestDatabase()
  const marks = await KeptMarks.start(database, 2)
  const worker = await stopInFlush(database)
  worker.kill('SIGCONT')
  const since = performance.now()
  await worker.line(/updated workspaces last_used_at/)
  await marks.assertFlushedOnce(t, since)
  assert.deepEqual(worker.lines(/flush failed/), [])
  await worker.end()
})

test('a worker that stands still in a flush for ever keeps no workspace locked, and its marks are flushed by another one', async t => {
  const database = await createTestDatabase()
  const { pool } = database
  const ids = await createWorkspaces(pool, 3)
  await storeClosedMarks(pool, ids)
  await stopInFlush(database)
  // The application waits for the row, but not for ever.
  const application = await database.connect({ statement_timeout: 30_000 })
  const since = performance.now()
  await application.query('UPDATE workspaces SET last_used_at = last_used_at WHERE id = $1', [ids[0]])
  const seconds = (performance.now() - since) / 1_000
  assert.ok(seconds < 15, `the application waited ${seconds} s`)
  const other = startWorker(database)
  await until('all marks are flushed', async () => (await pendingCount(pool)) === 0, { timeoutMs: 15_000 })
  const survived = (await lastUsedAt(pool, ids)).filter(time => time !== null).length
  const recovery = ((performance.now() - since) / 1_000).toFixed(1)
  t.diagnostic(`marked 3, survived ${survived}, lost ${3 - survived}, recovered in ${recovery} s`)
  assert.equal(survived, 3)
  await other.end()
})

test('a flush by hand that stands still for ever keeps no workspace locked, and its marks stay pending', async t => {
  const database = await createTestDatabase()
  const { pool, connectionString } = database
  const ids = await createWorkspaces(pool, 3)
  await storeClosedMarks(pool, ids)
  const gate = await closeFlushGate(database)
  const flush = startProgram('src/cli/main.ts', ['flush'], { env: { DATABASE_URL: connectionString } })
  await gate.untilReached()
  flush.kill('SIGSTOP')
  await gate.open()
  const application = await database.connect({ statement_timeout: 30_000 })
  const since = performance.now()
  await application.query('UPDATE workspaces SET last_used_at = last_used_at WHERE id = $1', [ids[0]])
  const seconds = (performance.now() - since) / 1_000
  assert.ok(seconds < 20, `the application waited ${seconds} s`)
  const survived = await pendingCount(pool)
  t.diagnostic(`marked 3, survived ${survived}, lost ${3 - survived}, unlocked after ${seconds.toFixed(1)} s`)
  assert.equal(survived, 3)
  flush.kill('SIGCONT')
  assert.equal((await flush.untilExit({ timeoutMs: 20_000 })).code, 1)
})

function startWorker({ connectionString }: TestDatabase): Program {
  const args = ['worker', '--flush-interval', '1', '--flush-timeout', FLUSH_TIMEOUT]
  return startProgram('src/cli/main.ts', args, { env: { DATABASE_URL: connectionString } })
}

/** Starts a worker and stops it with SIGSTOP. Its transaction has deleted marks, and waits for its next statement. */
async function stopInFlush(database: TestDatabase): Promise<Program> {
  const gate = await closeFlushGate(database)
  const worker = startWorker(database)
  await worker.line(/worker started/, { timeoutMs: 30_000 })
  await gate.untilReached()
  worker.kill('SIGSTOP')
  await gate.open()
  await until('its transaction is idle', async () => {
    const { rowCount } = await database.pool.query(
      "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'",
    )
    return rowCount === 1
  })
  return worker
}

/** Does what pg-boss does with a job that takes longer than 30 seconds: it fails, and is to be tried again. */
async function expire({ connectionString }: TestDatabase, id: string): Promise<void> {
  const boss = new PgBoss({ connectionString, supervise: false, schedule: false, migrate: false })
  await boss.start()
  await boss.fail(FLUSH_QUEUE, id, { message: 'job timed out' })
  await boss.stop()
}
