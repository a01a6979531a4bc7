import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { createTestDatabase } from '../support/database.ts'
import { closeFlushGate } from '../support/flush-gate.ts'
import { flushJobs } from '../support/jobs.ts'
import { until } from '../support/poll.ts'
import { startProgram } from '../support/process.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
  await pool.query('DELETE FROM pgboss.job WHERE name = $1', [FLUSH_QUEUE])
})

const startWorker = (...args: string[]) =>
  startProgram('src/cli/main.ts', ['worker', '--flush-interval', '1', ...args], {
    env: { DATABASE_URL: database.connectionString },
  })

test('a worker that is killed in the middle of a flush loses no mark, and another one does not wait for its job to expire', async () => {
  const ids = await createWorkspaces(pool, 100)
  const periodEnd = await storeClosedMarks(pool, ids)
  const gate = await closeFlushGate(database)
  const killed = startWorker()
  await gate.untilReached()
  killed.kill('SIGKILL')
  await killed.exited
  assert.equal(await pendingCount(pool), 100)

  const other = startWorker()
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

test('SIGTERM in the middle of a flush lets it commit, and the process of the worker ends with 0', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const periodEnd = await storeClosedMarks(pool, [id!])
  const gate = await closeFlushGate(database)
  const worker = startWorker()
  await gate.untilReached()
  worker.kill('SIGTERM')
  await worker.line(/stopping: finishing the flush in hand/)
  await gate.open()
  assert.deepEqual(await worker.exited, { code: 0, signal: null })
  assert.deepEqual(await lastUsedAt(pool, [id!]), [periodEnd])
  assert.equal((await flushJobs(pool))[0]!.state, 'completed')
  assert.equal(worker.lines(/updated workspaces last_used_at/).length, 1)
  assert.equal(worker.lines(/worker stopped/).length, 1)
})

test('a second signal ends the process of a worker at once, and the marks of its flush are still pending', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!])
  const gate = await closeFlushGate(database)
  const worker = startWorker()
  await gate.untilReached()
  worker.kill('SIGINT')
  await worker.line(/stopping/)
  worker.kill('SIGINT')
  assert.deepEqual(await worker.exited, { code: 130, signal: null })
  assert.equal(await pendingCount(pool), 1)
  await gate.open()
})
