import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { createTestDatabase } from '../support/database.ts'
import { closeFlushGate } from '../support/flush-gate.ts'
import { flushJobs } from '../support/jobs.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { startWorkerProcess } from '../support/worker-process.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
  await pool.query('DELETE FROM pgboss.job WHERE name = $1', [FLUSH_QUEUE])
})

test('SIGTERM in the middle of a flush lets it commit, and the process of the worker ends with 0', async t => {
  const [id] = await createWorkspaces(pool, 1)
  const periodEnd = await storeClosedMarks(pool, [id!])
  const gate = await closeFlushGate(database)
  t.after(() => gate.open())
  const worker = startWorkerProcess(database)
  await gate.untilReached()
  worker.kill('SIGTERM')
  await worker.line(/stopping after the flush that is running/)
  await gate.open()
  assert.deepEqual(await worker.exited, { code: 0, signal: null })
  assert.deepEqual(await lastUsedAt(pool, [id!]), [periodEnd])
  assert.equal((await flushJobs(pool))[0]!.state, 'completed')
  assert.equal(worker.lines(/updated workspaces last_used_at/).length, 1)
  assert.equal(worker.lines(/worker stopped/).length, 1)
})

test('a second signal ends the process of a worker at once, and the marks of its flush are still pending', async t => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!])
  const gate = await closeFlushGate(database)
  t.after(() => gate.open())
  const worker = startWorkerProcess(database)
  await gate.untilReached()
  worker.kill('SIGINT')
  await worker.line(/stopping/)
  worker.kill('SIGINT')
  assert.deepEqual(await worker.exited, { code: 130, signal: null })
  assert.equal(await pendingCount(pool), 1)
})
