import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { TestClock } from 'pg-boss'
import { lastFlush } from '../../src/activity/last-flush.ts'
import { FAILED_FLUSH_QUEUE, FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { startWorker } from '../support/flush-worker.ts'
import { flushedByJobs, flushJobs, startWaitingJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
  await pool.query('DELETE FROM pgboss.job WHERE name = ANY ($1)', [[FLUSH_QUEUE, FAILED_FLUSH_QUEUE]])
})

test('a worker drains a backlog of three and a half batches as a chain of four jobs', async () => {
  const ids = await createWorkspaces(pool, 350)
  const periodEnd = await storeClosedMarks(pool, ids)
  const log = collectLog()
  {
    // With this interval only the start sends a job. The jobs after it are the chain.
    await using _worker = await startWorker(database, log, { flushIntervalSeconds: 3_600, batchSize: 100 })
    await until('all marks are flushed', async () => (await flushedByJobs(pool)) === 350)
  }
  const jobs = await flushJobs(pool)
  assert.deepEqual(
    jobs.map(({ state, output }) => [state, output?.flushed, output?.full]),
    [
      ['completed', 100, true],
      ['completed', 100, true],
      ['completed', 100, true],
      ['completed', 50, false],
    ],
  )
  assert.deepEqual(await lastUsedAt(pool, ids), Array(350).fill(periodEnd))
  const told = log.find('updated workspaces last_used_at')
  assert.deepEqual(
    told.map(({ level, fields }) => [level, fields.flushed, fields.workspaces, fields.updated]),
    [
      ['info', 100, 100, 100],
      ['info', 100, 100, 100],
      ['info', 100, 100, 100],
      ['info', 50, 50, 50],
    ],
  )
  assert.ok(told.every(({ fields }) => typeof fields.durationMs === 'number'))
  const last = await lastFlush(pool)
  assert.equal(last?.flushed, 50)
  assert.ok(last?.completedAt instanceof Date)
})

test('with an interval below a minute, each flush job sends the next one', async () => {
  const log = collectLog()
  await using _worker = await startWorker(database, log, { flushIntervalSeconds: 1 })
  await until('a flush found nothing', () => log.find('nothing to flush').length >= 1)
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!])
  await until('a later one found the mark', () => log.find('updated workspaces last_used_at').length === 1)
  await until('and they go on', () => log.find('nothing to flush').length >= 2)
  assert.ok(log.lines.every(({ level }) => level === 'debug' || level === 'info'))
})

test('with an interval of whole minutes, the cron of pg-boss sends the flush jobs, also for minutes that were missed', async () => {
  const clock = new TestClock()
  const log = collectLog()
  await using _worker = await startWorker(database, log, { flushIntervalSeconds: 60, clock })
  const flushes = () => log.lines.filter(({ message }) => /flush|updated/.test(message)).length
  // The clock does not wait for handlers, which run between its small steps.
  const advance = async (seconds: number, reached: () => boolean) => {
    await until('the clock has brought it about', async () => {
      await clock.tick(seconds * 1_000)
      return reached()
    })
  }
  await advance(1, () => flushes() >= 1)
  const before = flushes()
  await advance(5, () => flushes() > before)
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!])
  await advance(5, () => log.find('updated workspaces last_used_at').length === 1)
})

test("a worker on the caller's pool leaves it open, and a second stop of the worker does nothing", async () => {
  const log = collectLog()
  const worker = await startFlushWorker({ database: pool, logger: log.logger })
  const stops = [worker.stop(), worker.stop()]
  await Promise.all(stops)
  await worker.stop()
  assert.equal((await pool.query('SELECT 1 AS one')).rows[0].one, 1)
})

test('a worker logs failed flushes as one warning, then as errors, then their end, and pg-boss keeps them as dead letters', async () => {
  const log = collectLog()
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!])
  // Without the retries of pg-boss, the dead letter comes at once.
  await pool.query('UPDATE pgboss.queue SET retry_limit = 0 WHERE name = $1', [FLUSH_QUEUE])
  await pool.query('ALTER TABLE workspace_usage_day RENAME TO workspace_usage_elsewhere')
  await using _worker = await startWorker(database, log, { flushIntervalSeconds: 1 })
  const failures = () => log.lines.filter(({ level }) => level === 'warn' || level === 'error')
  await until('two flushes have failed', async () => {
    await startWaitingJobs(pool)
    return failures().length >= 2
  })
  assert.deepEqual(
    failures()
      .slice(0, 2)
      .map(({ level, message, fields }) => [level, message, fields.consecutiveErrors]),
    [
      ['warn', 'flush failed; its marks stay pending and it is tried again', undefined],
      ['error', 'flush keeps failing; marks stay pending', 2],
    ],
  )
  assert.match(
    String(failures()[0]!.fields.err),
    /not migrated: relation "workspace_usage_day" does not exist/,
  )
  assert.equal(await pendingCount(pool), 1)
  await until('a dead letter tells of it', async () => {
    const { rows } = await pool.query('SELECT source_name FROM pgboss.job WHERE name = $1', [
      FAILED_FLUSH_QUEUE,
    ])
    return rows[0]?.source_name === FLUSH_QUEUE
  })

  await pool.query('ALTER TABLE workspace_usage_elsewhere RENAME TO workspace_usage_day')
  await until('the mark is flushed', async () => {
    await startWaitingJobs(pool)
    return (await pendingCount(pool)) === 0
  })
  await until('that is told', () => log.find('flush works again').length === 1)
})
