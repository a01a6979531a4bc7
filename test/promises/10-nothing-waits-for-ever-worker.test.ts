import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { BoundedPool } from '../../src/worker/bounded-pool.ts'
import { Reach } from '../../src/worker/reach.ts'
import { stopInTime } from '../../src/worker/stop-in-time.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { startWaitingJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { startProgram } from '../support/process.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'

/** The deadline on our side is two seconds later than that of the server. */
const SHORT = { flushIntervalSeconds: 1, flushTimeoutSeconds: 0.5 }

test('a worker whose connections went silent replaces them, says so once, and flushes again', async () => {
  await recoversFromSilence(await createTestDatabase())
})

test('a worker whose connections went silent flushes again on PostgreSQL 15', async t => {
  await onPostgres15(t, recoversFromSilence)
})

async function recoversFromSilence(database: TestDatabase): Promise<void> {
  const { pool } = database
  const [id] = await createWorkspaces(pool, 1)
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const log = collectLog()
  await using _worker = await startFlushWorker({
    database: proxy.connectionString,
    logger: log.logger,
    ...SHORT,
  })
  await storeClosedMarks(pool, [id!])
  await flushed(pool)
  proxy.silence()
  await storeClosedMarks(pool, [id!])
  await flushed(pool)
  await until('no silent connection is open', () => proxy.silentAndOpen === 0)
  await until('the end of the outage is logged', () => log.find('within reach again').length > 0)
  const told = log.find('out of reach')
  assert.equal(told.length, 1)
  assert.equal((told[0]!.fields.err as Error).name, 'NoAnswerError')
}

test('a flush on a connection that went silent fails within its deadline, and another one takes its marks', async () => {
  const database = await createTestDatabase()
  const { pool } = database
  const [id] = await createWorkspaces(pool, 1)
  await pool.query(`
    CREATE FUNCTION hesitate() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.3); RETURN new; END$$;
    CREATE TRIGGER hesitate BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION hesitate()`)
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const log = collectLog()
  await using _worker = await startFlushWorker({
    database: proxy.connectionString,
    logger: log.logger,
    ...SHORT,
  })
  await storeClosedMarks(pool, [id!])
  await until('a flush is in the trigger', async () => {
    const { rowCount } = await pool.query(
      "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'",
    )
    return rowCount === 1
  })
  proxy.silence()
  await flushed(pool)
  await until('the failed flush is logged', () => log.find('flush failed').length > 0)
  assert.equal(log.find('keeps failing').length, 0)
})

test('a stop while nothing answers ends in bounded time', async () => {
  const database = await createTestDatabase()
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const log = collectLog()
  const worker = await startFlushWorker({ database: proxy.connectionString, logger: log.logger, ...SHORT })
  await until('a flush has ended', () => log.find('nothing to flush').length > 0)
  proxy.silence('silent')
  await until('a statement is late', () => log.find('out of reach').length > 0)
  const started = performance.now()
  await worker.stop()
  // The longest flush is three seconds. Five more are allowed, and three for ends of pools.
  assert.ok(performance.now() - started < 11_000)
  await until('no silent connection is open', () => proxy.silentAndOpen === 0)
})

test('a stop that pg-boss does not finish cuts the connections, fails their statements, and says so', async () => {
  const { pool } = await createTestDatabase()
  const log = collectLog()
  const connections = new BoundedPool(pool, 25, new Reach(log.logger))
  const statement = connections.query('SELECT pg_sleep(20)').catch(error => error)
  await until('it runs', async () => {
    const { rowCount } = await pool.query(
      "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'",
    )
    return rowCount === 1
  })
  const stopping = stopInTime({ stop: () => new Promise(() => {}) }, connections, 0, log.logger)
  assert.ok((await statement) instanceof Error)
  await assert.rejects(connections.query('SELECT'))
  await stopping
  assert.deepEqual(
    log.find('did not stop in time').map(({ level, fields }) => [level, fields]),
    [['error', { afterSeconds: 3 }]],
  )
})

test('SIGTERM ends the process of a worker whose database answers nothing any more', async () => {
  const database = await createTestDatabase()
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const worker = startProgram(
    'src/cli/main.ts',
    ['worker', '--flush-interval', '1', '--flush-timeout', '0.5', '--log-level', 'debug'],
    { env: { DATABASE_URL: proxy.connectionString } },
  )
  await worker.line(/nothing to flush/)
  proxy.silence('silent')
  await worker.line(/out of reach/)
  worker.kill('SIGTERM')
  assert.deepEqual(await worker.untilExit({ timeoutMs: 15_000 }), { code: 0, signal: null })
})

test('a database that takes no connections is told once, and its return once', async () => {
  const database = await createTestDatabase()
  const { pool, name } = database
  const [id] = await createWorkspaces(pool, 1)
  const other = new pg.Client({ connectionString: new URL('/postgres', database.connectionString).href })
  await using _end = { [Symbol.asyncDispose]: () => other.end() }
  await other.connect()
  const log = collectLog()
  await using _worker = await startFlushWorker({
    database: database.connectionString,
    logger: log.logger,
    ...SHORT,
  })
  const accept = (yes: boolean) =>
    other.query(`ALTER DATABASE ${pg.escapeIdentifier(name)} ALLOW_CONNECTIONS ${yes}`)
  await accept(false)
  await other.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [name])
  await until('the outage is logged', () => log.find('out of reach').length > 0)
  const polls = performance.now() + 2_000
  await until('four polls have failed', () => performance.now() > polls)
  await accept(true)
  await until('the return is logged', () => log.find('within reach again').length > 0)
  assert.equal(log.find('out of reach').length, 1)
  assert.equal(log.find('within reach again').length, 1)
  assert.deepEqual(
    log.lines.filter(({ level }) => level === 'error'),
    [],
  )
  await storeClosedMarks(pool, [id!])
  await flushed(pool)
})

test('jobs that can not be taken are told once, and that they are taken again', async () => {
  const database = await createTestDatabase()
  const { pool } = database
  const log = collectLog()
  await using _worker = await startFlushWorker({
    database: database.connectionString,
    logger: log.logger,
    ...SHORT,
  })
  await pool.query('ALTER TABLE pgboss.job RENAME COLUMN heartbeat_on TO gone')
  await until('it is logged', () => log.find('can not be taken').length > 0)
  const polls = performance.now() + 1_500
  await until('three polls have failed', () => performance.now() > polls)
  await pool.query('ALTER TABLE pgboss.job RENAME COLUMN gone TO heartbeat_on')
  await until('a flush has ended', async () => {
    await startWaitingJobs(pool)
    return log.find('flush jobs are taken again').length > 0
  })
  assert.equal(log.find('can not be taken').length, 1)
  assert.equal(log.find('flush keeps failing').length, 0)
})

test('a pool of one connection is refused when a worker starts, and the error says how many are needed', async () => {
  const { connectionString } = await createTestDatabase()
  const pool = new pg.Pool({ connectionString, max: 1 })
  const { logger } = collectLog()
  await assert.rejects(startFlushWorker({ database: pool, logger }), {
    name: 'PoolSizeError',
    message:
      'the pool of the worker has at most 1 connection; allowed: 2 or more, 4 are better. ' +
      'Set max of the pg Pool, or free connections.',
  })
  const silent = new Proxy(pool, {
    get: (target, name) => {
      if (name === 'options') return undefined
      const value = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  await assert.rejects(startFlushWorker({ database: silent, logger }), { name: 'PoolSizeError', max: null })
  await pool.end()
})

test('a worker drains a backlog and keeps its interval on a pool of two connections', async () => {
  const database = await createTestDatabase()
  const pool = new pg.Pool({ connectionString: database.connectionString, max: 2 })
  const ids = await createWorkspaces(database.pool, 30)
  await storeClosedMarks(database.pool, ids)
  const log = collectLog()
  {
    await using _worker = await startFlushWorker({
      database: pool,
      logger: log.logger,
      batchSize: 10,
      ...SHORT,
    })
    await flushed(database.pool)
    const count = log.find('nothing to flush').length
    await until('two more flushes', () => log.find('nothing to flush').length >= count + 2)
  }
  assert.deepEqual(
    log.lines.filter(({ level }) => level === 'warn' || level === 'error'),
    [],
  )
  await pool.end()
})

test('a pool whose connections the host keeps to itself is told once, and the worker goes on when some are free', async () => {
  const database = await createTestDatabase()
  const pool = new pg.Pool({ connectionString: database.connectionString, max: 2 })
  const [id] = await createWorkspaces(database.pool, 1)
  const log = collectLog()
  {
    await using _worker = await startFlushWorker({ database: pool, logger: log.logger, ...SHORT })
    const taken = await Promise.all([pool.connect(), pool.connect()])
    await until('it is logged', () => log.find('out of reach').length > 0)
    for (const client of taken) client.release()
    await storeClosedMarks(database.pool, [id!])
    await flushed(database.pool)
  }
  assert.deepEqual(
    log.find('out of reach').map(({ fields }) => (fields.err as Error).name),
    ['NoConnectionError'],
  )
  await pool.end()
})

async function flushed(pool: pg.Pool): Promise<void> {
  await until('all marks are flushed', async () => (await pendingCount(pool)) === 0, { timeoutMs: 20_000 })
}
