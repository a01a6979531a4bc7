import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { TestClock } from 'pg-boss'
import { drain } from '../../src/flush/drain.ts'
import { FAILED_FLUSH_QUEUE, FLUSH_QUEUE, lastFlush } from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { closeFlushGate } from '../support/flush-gate.ts'
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
    // At this interval only the start sends a job: what follows is the chain.
    await using _worker = await startFlushWorker({
      database: database.connectionString,
      logger: log.logger,
      flushIntervalSeconds: 3_600,
      batchSize: 100,
    })
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
  await using _worker = await startFlushWorker({
    database: database.connectionString,
    logger: log.logger,
    flushIntervalSeconds: 1,
  })
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
  await using _worker = await startFlushWorker({
    database: database.connectionString,
    logger: log.logger,
    flushIntervalSeconds: 60,
    clock,
  })
  const flushes = () => log.lines.filter(({ message }) => /flush|updated/.test(message)).length
  // The clock does not wait for handlers: they run between small steps.
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

test('two workers and drains by hand consume every mark exactly once', async () => {
  const ids = await createWorkspaces(pool, 2_000)
  const sources = ['ssh', 'vscode', 'jetbrains', 'port-forward']
  for (const source of sources) await storeClosedMarks(pool, ids, { source })
  const total = ids.length * sources.length
  const log = collectLog()
  const options = { database: pool, logger: log.logger, flushIntervalSeconds: 1, batchSize: 150 }
  let byHand = 0
  {
    await using _one = await startFlushWorker(options)
    await using _two = await startFlushWorker(options)
    while ((await pendingCount(pool)) > 0) byHand += (await drain(pool, { batchSize: 100 })).flushed
  }
  assert.equal(byHand + (await flushedByJobs(pool)), total)
  assert.ok((await lastUsedAt(pool, ids)).every(used => used !== null))
  assert.deepEqual(
    log.lines.filter(({ level }) => level === 'warn' || level === 'error'),
    [],
  )
  const { rows } = await pool.query(
    'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
  )
  assert.equal(Number(rows[0].deadlocks), 0)
})

test('a flush commits together with the completion of its job or not at all, and is told only when it has', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!])
  const gate = await closeFlushGate(database)
  const log = collectLog()
  await using _worker = await startFlushWorker({
    database: database.connectionString,
    logger: log.logger,
    flushIntervalSeconds: 3_600,
  })
  await gate.untilReached()
  // Somebody takes the job away while its flush runs. It can't be completed then.
  await pool.query(`UPDATE pgboss.job SET state = 'cancelled' WHERE name = $1 AND state = 'active'`, [
    FLUSH_QUEUE,
  ])
  await gate.open()
  await until('the failure is told', () => log.lines.some(({ level }) => level === 'warn'))
  assert.equal(await pendingCount(pool), 1)
  assert.deepEqual(await lastUsedAt(pool, [id!]), [null])
  assert.deepEqual(log.find('updated workspaces last_used_at'), [])
})

test("a worker on the caller's own pool leaves it open, and stopping the worker twice is stopping it once", async () => {
  const log = collectLog()
  const worker = await startFlushWorker({ database: pool, logger: log.logger })
  const stops = [worker.stop(), worker.stop()]
  await Promise.all(stops)
  await worker.stop()
  assert.equal((await pool.query('SELECT 1 AS one')).rows[0].one, 1)
})

test('failed flushes are told as one warning, then as errors, then that flushing works again, and go to the dead letters', async () => {
  const log = collectLog()
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!])
  // Retries are pg-boss's own. Without any, the dead letter comes at once.
  await pool.query('UPDATE pgboss.queue SET retry_limit = 0 WHERE name = $1', [FLUSH_QUEUE])
  await pool.query('ALTER TABLE workspace_usage RENAME TO workspace_usage_elsewhere')
  await using _worker = await startFlushWorker({
    database: database.connectionString,
    logger: log.logger,
    flushIntervalSeconds: 1,
  })
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
  assert.match(String(failures()[0]!.fields.err), /not migrated: relation "workspace_usage" does not exist/)
  assert.equal(await pendingCount(pool), 1)
  await until('a dead letter tells of it', async () => {
    const { rows } = await pool.query('SELECT source_name FROM pgboss.job WHERE name = $1', [
      FAILED_FLUSH_QUEUE,
    ])
    return rows[0]?.source_name === FLUSH_QUEUE
  })

  await pool.query('ALTER TABLE workspace_usage_elsewhere RENAME TO workspace_usage')
  await until('the mark is flushed', async () => {
    await startWaitingJobs(pool)
    return (await pendingCount(pool)) === 0
  })
  await until('that is told', () => log.find('flush works again').length === 1)
})
