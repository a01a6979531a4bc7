/*
 * Promise 10, for those that mark: a connection that goes silent is noticed, replaced and logged, and an end has an end.
 * test/soak/ has the same with the defaults.
 */

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { suite, test } from 'node:test'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import { NoAnswerError } from '../../src/errors.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { type HalfOpenProxy, startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { collectLog } from '../support/log-lines.ts'
import { CENTURY, setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { runProgram } from '../support/process.ts'

const ANSWER_TIMEOUT_MS = 300
/** The deadline, the first pause and some time of a busy machine. */
const SOON_MS = 3_000

/** Pools as hosts make them, from a plain one to one that never closes what is idle. */
const POOLS: Record<string, pg.PoolConfig> = {
  'a plain pool': {},
  'a pool of one connection': { max: 1 },
  'a pool that keeps idle connections': { idleTimeoutMillis: 0 },
  'a pool with a query_timeout of its own': { query_timeout: 100 },
}

const servers = { 18: undefined, 15: await testServer15() }

for (const major of [18, 15] as const) {
  const on = servers[major]
  suite(`silence on PostgreSQL ${major}`, { skip: on === null && POSTGRES_15_MISSING }, () => {
    const fixture = async () => {
      const database = await createTestDatabase(on ? { on } : {})
      await setPeriodLength(database.pool, CENTURY)
      const proxy = await startHalfOpenProxy(database.connectionString)
      return { database, proxy, [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose]() }
    }

    for (const [name, config] of Object.entries(POOLS)) {
      test(`a tracker on ${name} stores its marks soon after a silence, and destroys what is silent, on PostgreSQL ${major}`, async () => {
        await using network = await fixture()
        const { database, proxy } = network
        const pool = poolThrough(proxy, config)
        await openIdle(pool)
        const log = collectLog()
        const tracker = new UsageTracker(pool, { statementTimeoutMs: ANSWER_TIMEOUT_MS, logger: log.logger })
        proxy.silence()
        const id = randomUUID()
        tracker.mark(id)
        await untilStored(database, id)
        await tracker.close({ timeoutMs: 1_000 })
        assert.ok(log.find('marks failed to be stored').length >= 1)
        assert.equal(log.find('marks are stored again').length, 1)
        await pool.end()
        await until('no silent connection is open', () => proxy.silentAndOpen === 0)
      })
    }

    test(`a tracker on Kysely stores its marks soon after a silence, on PostgreSQL ${major}`, async () => {
      await using network = await fixture()
      const { database, proxy } = network
      const pool = poolThrough(proxy)
      const kysely = new Kysely({ dialect: new PostgresDialect({ pool }) })
      await openIdle(pool, 2)
      const log = collectLog()
      const tracker = new UsageTracker(kysely, { statementTimeoutMs: ANSWER_TIMEOUT_MS, logger: log.logger })
      proxy.silence()
      const id = randomUUID()
      tracker.mark(id)
      await untilStored(database, id, 10_000)
      await tracker.close()
      assert.ok(log.lines[0]!.fields.err instanceof NoAnswerError)
    })

    test(`a tracker whose pool has no room for silent connections outlives an outage in which new ones are silent too, on PostgreSQL ${major}`, async () => {
      await using network = await fixture()
      const { database, proxy } = network
      const pool = poolThrough(proxy, { max: 1 })
      await openIdle(pool, 1)
      const tracker = new UsageTracker(pool, { statementTimeoutMs: 100, logger: collectLog().logger })
      proxy.silence('silent')
      const id = randomUUID()
      tracker.mark(id)
      await until('it has tried more often than the pool has room', () => tracker.stats().failedAttempts >= 3)
      proxy.heal()
      await untilStored(database, id, 10_000)
      await tracker.close()
    })

    test(`one open transaction that holds the same mark does not stall a tracker: the retry falls into the next period, on PostgreSQL ${major}`, async () => {
      const database = await createTestDatabase(on ? { on } : {})
      const { pool } = database
      await setPeriodLength(pool, 2)
      const ids = Array.from({ length: 6_000 }, () => randomUUID())
      const holder = await database.connect()
      // The tracker must send its first statement in the same period.
      await until('a period has just begun', async () => {
        const { rows } = await pool.query(
          `SELECT usage_period_end() - statement_timestamp() > interval '1.8 s' AS begun`,
        )
        return rows[0].begun
      })
      await holder.query('BEGIN')
      await holder.query('INSERT INTO pending_usage (workspace_id, source) SELECT $1, $2', [ids[0], 'ssh'])
      const log = collectLog()
      const tracker = new UsageTracker(pool, {
        source: 'ssh',
        statementTimeoutMs: ANSWER_TIMEOUT_MS,
        logger: log.logger,
      })
      for (const id of ids) tracker.mark(id)
      await tracker.drain()
      const { rows } = await pool.query(
        'SELECT count(DISTINCT workspace_id)::int AS stored FROM pending_usage',
      )
      assert.equal(rows[0].stored, ids.length)
      const { rows: open } = await holder.query(
        'SELECT count(*)::int AS own FROM pending_usage WHERE workspace_id = $1',
        [ids[0]],
      )
      assert.equal(open[0].own, 2, 'the transaction is still open, with the mark of the earlier period')
      assert.ok(log.find('marks failed to be stored').length >= 1)
      await holder.query('ROLLBACK')
      await tracker.close()
    })

    test(`close of a tracker on a silent connection ends in time, and so does the pool after it, on PostgreSQL ${major}`, async () => {
      await using network = await fixture()
      const { proxy } = network
      const pool = poolThrough(proxy)
      await openIdle(pool, 1)
      const tracker = new UsageTracker(pool, { statementTimeoutMs: 1_000, logger: collectLog().logger })
      proxy.silence('silent')
      tracker.mark(randomUUID())
      const from = performance.now()
      assert.deepEqual(await tracker.close({ timeoutMs: 200 }), { left: 1 })
      assert.ok(performance.now() - from < 1_000)
      await pool.end()
      assert.ok(performance.now() - from < 1_000 + SOON_MS)
    })
  })
}

test('a tracker on a pg Client whose connection goes silent reports it, and the process lives', async () => {
  const database = await createTestDatabase()
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const client = new pg.Client({ connectionString: proxy.connectionString })
  client.on('error', () => {})
  await client.connect()
  const log = collectLog()
  const tracker = new UsageTracker(client, { statementTimeoutMs: ANSWER_TIMEOUT_MS, logger: log.logger })
  proxy.silence()
  tracker.mark(randomUUID())
  await until('it failed', () => tracker.stats().failedAttempts > 0)
  assert.ok(log.lines[0]!.fields.err instanceof NoAnswerError)
  assert.deepEqual(await tracker.close({ timeoutMs: 0 }), { left: 1 })
})

test('many trackers on one pool cause no warning of listeners', async () => {
  const database = await createTestDatabase()
  const { code, stderr } = await runProgram('test/programs/many-trackers.ts', [], {
    env: { DATABASE_URL: database.connectionString },
  })
  assert.deepEqual([code, stderr], [0, ''])
})

function poolThrough(proxy: HalfOpenProxy, config: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool({ connectionString: proxy.connectionString, ...config })
  pool.on('error', () => {})
  // Nobody but its owner can reach a client inside Kysely. If it breaks unheard, the process ends.
  pool.on('connect', client => client.on('error', () => {}))
  atEnd(() => {
    // Not awaited, because a connection inside Kysely that is silent is never given back.
    if (!pool.ending) void pool.end()
  })
  return pool
}

/** Opens connections that are idle when the silence begins. */
async function openIdle(pool: pg.Pool, count = pool.options.max ?? 10): Promise<void> {
  const clients = await Promise.all(Array.from({ length: count }, () => pool.connect()))
  for (const client of clients) client.release()
}

async function untilStored(database: TestDatabase, id: string, timeoutMs = SOON_MS): Promise<void> {
  await until(
    'the mark is stored',
    async () => {
      const { rowCount } = await database.pool.query('SELECT FROM pending_usage WHERE workspace_id = $1', [
        id,
      ])
      return rowCount === 1
    },
    { timeoutMs },
  )
}
