import assert from 'node:assert/strict'
import { test } from 'node:test'
import { usageCompleteSince } from '../../src/activity/complete-since.ts'
import { flush } from '../../src/flush/flush.ts'
import { migrate } from '../../src/schema/migrate.ts'
import type { FailureEvent, FlushEvent, ResetEvent } from '../../src/worker/events.ts'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { startWorker } from '../support/flush-worker.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { flushJobs, startWaitingJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'

/** Hooks that keep what they are called with. */
function collectEvents() {
  const flushes: FlushEvent[] = []
  const failures: FailureEvent[] = []
  const resets: ResetEvent[] = []
  return {
    flushes,
    failures,
    resets,
    hooks: {
      onFlush: (event: FlushEvent) => void flushes.push(event),
      onFailure: (event: FailureEvent) => void failures.push(event),
      onReset: (event: ResetEvent) => void resets.push(event),
    },
  }
}

testOnBothVersions('onFlush tells the counts of a flush that has committed, and its job', async database => {
  const { pool, connectionString } = database
  await migrate({ connectionString })
  const ids = await createWorkspaces(pool, 3)
  await storeClosedMarks(pool, ids)
  const events = collectEvents()
  let pendingSeen: Promise<number> | undefined
  const onFlush = (event: FlushEvent) => {
    events.hooks.onFlush(event)
    pendingSeen ??= pendingCount(pool)
  }
  await using _worker = await startWorker(database, collectLog(), { flushIntervalSeconds: 3_600, onFlush })
  const flushed = await until('the flush is told', () =>
    events.flushes.find(({ result }) => result.flushed > 0),
  )
  assert.equal(await pendingSeen, 0, 'another connection sees what the flush did')
  assert.equal(flushed.result.updated, 3)
  assert.ok(flushed.durationMs > 0)
  assert.equal(flushed.queue, FLUSH_QUEUE)
  assert.equal(flushed.recovered, null)
  const { rows } = await pool.query(
    "SELECT id FROM pgboss.job WHERE name = $1 AND output->>'flushed' = '3'",
    [FLUSH_QUEUE],
  )
  assert.deepEqual(rows, [{ id: flushed.jobId }])
})

testOnBothVersions(
  'onFailure tells each flush that fails and since when, and onFlush tells the end of it',
  async database => {
    const { pool, connectionString } = database
    await migrate({ connectionString })
    const [id] = await createWorkspaces(pool, 1)
    await storeClosedMarks(pool, [id!])
    await pool.query('ALTER TABLE workspace_usage_day RENAME TO workspace_usage_elsewhere')
    const events = collectEvents()
    const log = collectLog()
    await using _worker = await startWorker(database, log, { flushIntervalSeconds: 1, ...events.hooks })
    await until('two failures are told', async () => {
      await startWaitingJobs(pool)
      return events.failures.length >= 2
    })
    const [first, second] = events.failures as [FailureEvent, FailureEvent]
    assert.deepEqual([first.kind, first.consecutiveErrors, first.queue], ['flush', 1, FLUSH_QUEUE])
    assert.match(first.jobId!, /^[0-9a-f-]{36}$/)
    assert.match(String(first.error), /not migrated: relation "workspace_usage_day" does not exist/)
    assert.deepEqual([second.kind, second.consecutiveErrors, second.since], ['flush', 2, first.since])
    assert.equal(events.flushes.length, 0)

    await pool.query('ALTER TABLE workspace_usage_elsewhere RENAME TO workspace_usage_day')
    await until('a flush is told', async () => {
      await startWaitingJobs(pool)
      return events.flushes.length >= 2
    })
    assert.deepEqual(events.flushes[0]!.recovered, {
      consecutiveErrors: events.failures.length,
      since: first.since,
    })
    assert.equal(events.flushes[1]!.recovered, null)
  },
)

test('onFailure tells once that flush jobs can not be taken', async () => {
  const database = await createTestDatabase()
  const events = collectEvents()
  await using _worker = await startWorker(database, collectLog(), {
    flushIntervalSeconds: 1,
    ...events.hooks,
  })
  await until('a flush is told', () => events.flushes.length > 0)
  await database.pool.query('ALTER FUNCTION pgboss.job_now() RENAME TO job_now_elsewhere')
  const failure = await until('a failure is told', () => events.failures.find(({ kind }) => kind === 'jobs'))
  assert.deepEqual([failure.jobId, failure.consecutiveErrors], [null, 1])
  await database.pool.query('ALTER FUNCTION pgboss.job_now_elsewhere() RENAME TO job_now')
  await until('its end is told', () => events.flushes.find(({ recovered }) => recovered !== null))
  assert.equal(events.failures.filter(({ kind }) => kind === 'jobs').length, 1)
})

test('onFailure tells once that the database is out of reach, and onFlush tells that it is back', async () => {
  const database = await createTestDatabase()
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const events = collectEvents()
  await using _worker = await startFlushWorker({
    database: proxy.connectionString,
    logger: collectLog().logger,
    flushIntervalSeconds: 1,
    flushTimeoutSeconds: 0.1,
    ...events.hooks,
  })
  await until('a flush is told', () => events.flushes.length > 0)
  proxy.silence('silent')
  const failure = await until('it is told', () => events.failures.find(({ kind }) => kind === 'unreachable'))
  assert.equal(failure.jobId, null)
  const connections = proxy.accepted
  await until('it has tried to connect again and again', () => proxy.accepted >= connections + 3, {
    timeoutMs: 30_000,
  })
  // Later, on a slow machine, an answer may be late once more.
  assert.equal(events.failures.filter(({ kind }) => kind === 'unreachable').length, 1)
  proxy.heal()
  const back = await until(
    'its end is told',
    () => events.flushes.find(({ recovered }) => recovered !== null),
    {
      timeoutMs: 30_000,
    },
  )
  assert.ok(back.recovered!.since <= failure.since)
})

test('onReset tells that pending_usage was emptied, after onFlush of the same job', async () => {
  const database = await createTestDatabase()
  // The database is a copy of a template. The first flush gets to know it.
  await flush(database.pool)
  await database.pool.query('TRUNCATE pending_usage, pending_usage_witness')
  const events = collectEvents()
  let flushesBefore: number | undefined
  const onReset = (event: ResetEvent) => {
    events.hooks.onReset(event)
    flushesBefore = events.flushes.length
  }
  await using _worker = await startWorker(database, collectLog(), { ...events.hooks, onReset })
  const reset = await until('the reset is told', () => events.resets[0])
  assert.ok(Math.abs(Date.now() - reset.noticedAt.getTime()) < 60_000)
  assert.deepEqual([reset.reason, reset.emptied, reset.flushedUntil], ['unknown', true, null])
  assert.deepEqual(reset.completeSince, await usageCompleteSince(database.pool))
  assert.deepEqual([reset.jobId, reset.queue], [events.flushes[flushesBefore! - 1]!.jobId, FLUSH_QUEUE])
})

test('hooks that throw or reject are logged each time, and the flushes stay committed', async () => {
  const database = await createTestDatabase()
  const ids = await createWorkspaces(database.pool, 2)
  await storeClosedMarks(database.pool, ids)
  const log = collectLog()
  let calls = 0
  const onFlush = () => {
    calls++
    if (calls % 2 === 0) throw new Error('thrown')
    return Promise.reject(new Error('rejected'))
  }
  await using _worker = await startWorker(database, log, { flushIntervalSeconds: 1, batchSize: 1, onFlush })
  await until('it was called four times', () => calls >= 4)
  await until('each is logged', () => log.find('a hook failed; the worker goes on').length >= 4)
  const told = log.find('a hook failed; the worker goes on').slice(0, 2)
  assert.deepEqual(
    told.map(({ level, fields }) => [level, fields.hook, String(fields.err)]),
    [
      ['error', 'onFlush', 'Error: rejected'],
      ['error', 'onFlush', 'Error: thrown'],
    ],
  )
  assert.equal(await pendingCount(database.pool), 0)
  assert.ok((await flushJobs(database.pool)).every(({ state }) => state !== 'failed' && state !== 'retry'))
})

test('a hook that never ends does not delay the next flush or the stop', async () => {
  const database = await createTestDatabase()
  let calls = 0
  const onFlush = () => {
    calls++
    return new Promise(() => {})
  }
  const worker = await startWorker(database, collectLog(), { flushIntervalSeconds: 1, onFlush })
  await until('it was called three times', () => calls >= 3)
  await worker.stop()
})

test('a hook that is no function is refused before anything is connected', async () => {
  for (const hook of ['onFlush', 'onFailure', 'onReset']) {
    await assert.rejects(
      startFlushWorker({
        database: 'postgres://127.0.0.1:1/nowhere',
        logger: collectLog().logger,
        [hook]: 'alert',
      }),
      { name: 'InvalidOptionError', message: `${hook} is "alert"; allowed: a function.` },
    )
  }
})
