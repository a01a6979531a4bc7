import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { PgBoss, type WipData } from 'pg-boss'
import { createPool } from '../../src/database/pool.ts'
import { Life } from '../../src/worker/liveness.ts'
import { SYSTEM_CLOCK } from '../../src/worker/poll.ts'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { startWorker } from '../support/flush-worker.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { flushJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

const database = await createTestDatabase()
const { logger } = collectLog()
const ALIVE = { alive: true, reason: null }

test('a worker that runs is alive, and one that was stopped is not', async () => {
  const worker = await startWorker(database, { logger }, {})
  assert.deepEqual(await worker.liveness(), ALIVE)
  const stopping = worker.stop()
  assert.deepEqual(await worker.liveness(), { alive: false, reason: 'the worker was stopped' })
  await stopping
  assert.deepEqual(await worker.liveness(), { alive: false, reason: 'the worker was stopped' })
})

test('a worker whose database falls silent says so within its deadline, and is alive again when it is back', async () => {
  await using proxy = await startHalfOpenProxy(database.connectionString)
  await using worker = await startFlushWorker({
    database: proxy.connectionString,
    logger,
    flushTimeoutSeconds: 0.1,
  })
  assert.deepEqual(await worker.liveness(), ALIVE)
  proxy.silence('silent')
  const asked = performance.now()
  const { alive, reason } = await worker.liveness()
  assert.ok(performance.now() - asked < 4_500)
  assert.equal(alive, false)
  assert.match(reason!, /^the database (did not answer within 3 seconds|does not answer: )/)
  proxy.heal()
  await until('it is alive again', async () => (await worker.liveness()).alive, { timeoutMs: 30_000 })
})

test('probes that come while the database is silent wait for one question together', async () => {
  let asked = 0
  const now = Date.now()
  const life = new Life({
    boss: { getWipData: () => [{ name: FLUSH_QUEUE, state: 'active', createdOn: now }] as WipData[] },
    queue: FLUSH_QUEUE,
    connections: {
      query: () => {
        asked++
        return new Promise(() => {})
      },
    },
    clock: { now: () => now },
    turnSeconds: 1,
  })
  const answers = await Promise.all([life.look(), life.look(), life.look()])
  assert.deepEqual(
    answers.map(({ alive }) => alive),
    [false, false, false],
  )
  assert.equal(asked, 1)
})

test('a worker whose database refuses connections is not alive, and the reason is the error', async () => {
  const pool = createPool(database.connectionString, { applicationName: 'test', max: 4 })
  await using worker = await startFlushWorker({ database: pool, logger })
  const refuse = (back?: (error: Error) => void) => {
    const error = new Error('connect ECONNREFUSED')
    return back ? back(error) : Promise.reject(error)
  }
  const refusing = mock.method(pool, 'connect', refuse as typeof pool.connect)
  assert.deepEqual(await worker.liveness(), {
    alive: false,
    reason: 'the database does not answer: connect ECONNREFUSED',
  })
  refusing.mock.restore()
  await until('it is alive again', async () => (await worker.liveness()).alive)
  await worker.stop()
  await pool.end()
})

test('a worker whose pool is exhausted by the host is not alive within its deadline', async () => {
  const pool = createPool(database.connectionString, { applicationName: 'test', max: 4 })
  await using worker = await startFlushWorker({ database: pool, logger })
  const taken = await Promise.all(Array.from({ length: 4 }, () => pool.connect()))
  assert.deepEqual(await worker.liveness(), {
    alive: false,
    reason: 'the database did not answer within 3 seconds, or the pool gave no connection',
  })
  for (const client of taken) client.release()
  await until('it is alive again', async () => (await worker.liveness()).alive)
  await worker.stop()
  await pool.end()
})

test('a worker whose loop has ended is not alive, although its database answers', async t => {
  const start = t.mock.method(PgBoss.prototype, 'start')
  await using worker = await startWorker(database, { logger }, {})
  const boss = start.mock.calls[0]!.this as PgBoss
  await boss.offWork(FLUSH_QUEUE)
  assert.deepEqual(await worker.liveness(), {
    alive: false,
    reason: 'the loop that takes flush jobs has ended',
  })
})

test('a worker whose loop has not turned for long is not alive until it turns again', async () => {
  let ahead = 0
  const clock = { ...SYSTEM_CLOCK, now: () => Date.now() + ahead }
  await using worker = await startWorker(database, { logger }, { clock })
  await until('the loop has turned', async () => (await worker.liveness()).alive)
  ahead = 3_600_000
  const { alive, reason } = await worker.liveness()
  assert.equal(alive, false)
  assert.match(reason!, /^the loop that takes flush jobs has not turned for 3[56]\d\d seconds$/)
  await until('the loop has turned again', async () => (await worker.liveness()).alive)
})

test('a worker is alive while its flush takes long', async () => {
  const [id] = await createWorkspaces(database.pool, 1)
  await storeClosedMarks(database.pool, [id!])
  await using worker = await startWorker(
    database,
    { logger },
    { flushTimeoutSeconds: 5, flushIntervalSeconds: 1 },
  )
  const blocker = await database.pool.connect()
  try {
    await blocker.query('BEGIN; LOCK TABLE pending_usage_witness')
    await until('a flush waits for the lock', async () => {
      const { rowCount } = await blocker.query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
      return (rowCount ?? 0) > 0
    })
    assert.ok((await flushJobs(database.pool)).some(({ state }) => state === 'active'))
    assert.deepEqual(await worker.liveness(), ALIVE)
  } finally {
    await blocker.query('ROLLBACK')
    blocker.release()
  }
})
