import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { Kysely, PostgresDialect, sql } from 'kysely'
import pg from 'pg'
import {
  answerWithin,
  connectWithin,
  destroyConnection,
  destroyIdle,
  executeWithin,
  isPool,
} from '../../src/database/deadline.ts'
import { createPool } from '../../src/database/pool.ts'
import { NoAnswerError } from '../../src/errors.ts'
import { createTestDatabase } from '../support/database.ts'
import { startFaultyProxy } from '../support/faulty-proxy.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { heardPool } from '../support/heard-pool.ts'
import { until } from '../support/poll.ts'

const database = await createTestDatabase()
const { pool } = database
const ONE = { sql: 'SELECT 1::text AS one', parameters: [] }

test('an answer in time is returned, and so is an error; nothing is destroyed', async () => {
  const destroy = () => assert.fail('destroyed')
  assert.equal(await answerWithin(50, async () => 'answer', destroy), 'answer')
  await assert.rejects(
    answerWithin(50, () => Promise.reject(new Error('refused')), destroy),
    { message: 'refused' },
  )
  const thrown = () => {
    throw new Error('thrown')
  }
  await assert.rejects(answerWithin(50, thrown, destroy), { message: 'thrown' })
})

test('a late answer is destroyed once, and what becomes of it later disturbs nobody', async () => {
  let destroyed = 0
  const late = Promise.withResolvers<never>()
  await assert.rejects(
    answerWithin(
      20,
      () => late.promise,
      () => destroyed++,
    ),
    (error: unknown) => error instanceof NoAnswerError && error.timeoutMs === 20,
  )
  late.reject(new Error('late'))
  await setImmediate()
  assert.equal(destroyed, 1)
})

test('an answer that arrived while the event loop was blocked is not late', async () => {
  const client = await database.connect()
  const answer = answerWithin(
    50,
    () => client.query('SELECT 1 AS one'),
    () => assert.fail('destroyed'),
  )
  await setImmediate()
  const until = performance.now() + 200
  while (performance.now() < until);
  assert.deepEqual((await answer).rows, [{ one: 1 }])
})

test('a client that comes too late goes back to its pool', async () => {
  const small = new pg.Pool({ connectionString: database.connectionString, max: 1 })
  const taken = await small.connect()
  await assert.rejects(connectWithin(small, 20), NoAnswerError)
  taken.release()
  await until('the late client is idle', () => small.idleCount === 1 && small.waitingCount === 0)
  await small.end()
})

test('a client that its pool opens only after the call, and that never connects, takes no place for ever', async () => {
  await using proxy = await startFaultyProxy(database.connectionString)
  const two = heardPool({ connectionString: proxy.connectionString, max: 2, idleTimeoutMillis: 0 })
  await two.query('SELECT 1')
  proxy.has({ kind: 'mutes' })
  // Both are promised the idle client. When the first has taken it, the pool opens another one for the second.
  const [client, late] = await Promise.allSettled([connectWithin(two, 100), connectWithin(two, 100)])
  assert.deepEqual([client.status, late.status], ['fulfilled', 'rejected'])
  await until('the pool has a place again', () => two.totalCount === 1)
  if (client.status === 'fulfilled') client.value.release()
  await two.end()
})

test('two statements that miss their deadline at the same time destroy the idle clients, and open no new ones', async () => {
  await using proxy = await startFaultyProxy(database.connectionString)
  const pool = heardPool({ connectionString: proxy.connectionString, max: 4, idleTimeoutMillis: 0 })
  const clients = [await pool.connect(), await pool.connect()]
  for (const client of clients) client.release()
  proxy.has({ kind: 'mutes' })
  destroyIdle(pool, 1_000)
  destroyIdle(pool, 1_000)
  await until('the idle clients are destroyed', () => proxy.open === 0)
  assert.equal(proxy.accepted, 2)
  await pool.end()
})

test('a client has a listener while it is checked out, and no more of ours afterwards', async () => {
  const small = new pg.Pool({ connectionString: database.connectionString, max: 1 })
  for (let round = 0; round < 3; round++) {
    const client = await connectWithin(small, 5_000)
    assert.equal((client as unknown as pg.PoolClient).listenerCount('error'), 1)
    client.release()
    assert.equal((client as unknown as pg.PoolClient).listenerCount('error'), 1, "the pool's own")
  }
  const client = await connectWithin(small, 5_000)
  const { rows } = await client.query('SELECT pg_backend_pid() AS pid')
  await pool.query('SELECT pg_terminate_backend($1)', [(rows[0] as { pid: number }).pid])
  await assert.rejects(client.query('SELECT 1'))
  client.release(true)
  assert.deepEqual((await executeWithin(small, ONE, 5_000)).rows, [{ one: '1' }])
  await small.end()
})

test('destroyConnection does nothing to what is no pg client', () => {
  for (const other of [
    {},
    { query() {} },
    { connection: null },
    { connection: { stream: 1 } },
    database.kysely,
  ]) {
    destroyConnection(other)
  }
})

test('a pool is told from a client and from anything else', async () => {
  const client = await database.connect()
  assert.deepEqual([pool, client, database.kysely, { query() {} }].map(isPool), [true, false, false, false])
})

test('an error of PostgreSQL destroys no idle connection', async () => {
  const two = new pg.Pool({ connectionString: database.connectionString, max: 2, idleTimeoutMillis: 0 })
  const clients = [await two.connect(), await two.connect()]
  for (const client of clients) client.release()
  await assert.rejects(executeWithin(two, { sql: 'SELECT 1 / 0', parameters: [] }, 5_000), { code: '22012' })
  await setImmediate()
  assert.equal(two.idleCount, 1)
  await two.end()
})

test('a pool of ours reports a silent connection in time, replaces it, and ends', async () => {
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const own = createPool(proxy.connectionString, { applicationName: 'test', max: 1, statementTimeoutMs: 200 })
  const kysely = new Kysely({ dialect: new PostgresDialect({ pool: own as unknown as pg.Pool }) })
  const ways: Record<string, () => Promise<unknown>> = {
    'by query': () => own.query('SELECT 1'),
    'by query with values': () => own.query('SELECT $1::text', ['one']),
    'by a client': async () => {
      const client = await own.connect()
      client.on('error', () => {})
      let failed = true
      try {
        const result = await client.query('SELECT 1')
        failed = false
        return result
      } finally {
        client.release(failed)
      }
    },
    'by Kysely': () => sql`SELECT 1`.execute(kysely),
  }
  for (const [way, run] of Object.entries(ways)) {
    await run()
    proxy.silence()
    await assert.rejects(run(), NoAnswerError, way)
    proxy.heal()
    await run()
    assert.equal(proxy.silentAndOpen, 0, way)
  }
  proxy.silence('silent')
  await assert.rejects(own.query('SELECT 1'), NoAnswerError)
  await own.end()
})

test('a pool of ours asks the network after ten seconds whether an idle connection is still there', async () => {
  const own = createPool(database.connectionString, { applicationName: 'test', max: 1 })
  const { options } = own as unknown as { options: pg.PoolConfig }
  assert.deepEqual([options.keepAlive, options.keepAliveInitialDelayMillis], [true, 10_000])
  await own.end()
})
