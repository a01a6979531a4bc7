/** With SIZES_MARKS=20000 it takes ten minutes. `npm run test:faults` leaves it at fewer marks a flush. */

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type pg from 'pg'
import { flush } from '../../../src/flush/flush.ts'
import { FLUSH_QUEUE } from '../../../src/worker/queue.ts'
import { startFlushWorker } from '../../../src/worker/worker.ts'
import { createTestDatabase, type TestDatabase } from '../../support/database.ts'
import { collectLog } from '../../support/log-lines.ts'
import { until } from '../../support/poll.ts'
import { onPostgres15 } from '../../support/postgres-15.ts'
import { startServer } from '../../support/server.ts'

/*
 * The tables of marks are emptied and filled for years. So what 1,000 flushes leave behind must not be more than what
 * 100 leave. Autovacuum runs by itself. It looks once a second here, as flushes follow each other so much faster.
 */

const MARKS = Number(process.env.SIZES_MARKS ?? 4_000)
const FLUSHES = Number(process.env.SIZES_FLUSHES ?? 1_000)
const SOURCES = ['ssh', 'ide']
const WORKSPACES = MARKS / SOURCES.length

/** So many of the flushes are jobs of pg-boss. */
const EVERY_TENTH = 10

const NAMES = ['pending_usage', 'pending_usage_pkey', 'workspace_usage_day', 'workspaces', 'pgboss']

type Sizes = Record<string, number>

test('a thousand flushes leave the tables as large as a hundred do', async t => {
  const { connectionString } = await startServer({ autovacuum_naptime: '1s' })
  await grow(await createTestDatabase({ on: connectionString }), FLUSHES, t)
})

test('on PostgreSQL 15, a thousand flushes leave the tables as large as a hundred do', async t => {
  await onPostgres15(t, async database => {
    await database.pool.query("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    await database.pool.query('SELECT pg_reload_conf()')
    await grow(database, FLUSHES, t)
    await database.pool.query('ALTER SYSTEM RESET autovacuum_naptime')
  })
})

async function grow(database: TestDatabase, flushes: number, t: TestContext): Promise<void> {
  const { pool } = database
  await pool.query('INSERT INTO workspaces SELECT FROM generate_series(1, $1)', [WORKSPACES])
  const log = collectLog()
  await using _worker = await startFlushWorker({
    database: database.connectionString,
    logger: log.logger,
    flushIntervalSeconds: 3_600,
    pollSeconds: 0.5,
    batchSize: MARKS + 1,
  })
  await until('its first flush is over', () => log.find('nothing to flush').length > 0)
  const flushedByJobs = () => log.find('updated workspaces last_used_at').length
  const measured: Sizes[] = []
  for (let count = 1; count <= flushes; count++) {
    await store(pool)
    if (count % EVERY_TENTH === 0) await flushByJob(pool, flushedByJobs)
    else assert.equal((await flush(pool, { batchSize: MARKS + 1 })).flushed, MARKS)
    if ([flushes / 100, flushes / 10, flushes].includes(count)) {
      const sizes = await sizesOf(pool)
      measured.push(sizes)
      t.diagnostic(`after ${count} flushes, in MB: ${describe(sizes)}`)
    }
  }
  assert.equal(flushedByJobs(), flushes / EVERY_TENTH)
  const [before, after] = measured.slice(-2) as [Sizes, Sizes]
  for (const name of NAMES) {
    assert.ok(after[name]! <= 2 * before[name]!, `${name} grew from ${before[name]} to ${after[name]} bytes`)
  }
}

/** Each source marks each workspace in a period of its own, which has closed. */
async function store(pool: pg.Pool): Promise<void> {
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT now(), id, source FROM workspaces, unnest($1::text[]) AS source`,
    [SOURCES],
  )
}

async function flushByJob(pool: pg.Pool, flushedByJobs: () => number): Promise<void> {
  const before = flushedByJobs()
  await pool.query(
    'INSERT INTO pgboss.job (name, policy) SELECT name, policy FROM pgboss.queue WHERE name = $1',
    [FLUSH_QUEUE],
  )
  await until('a job has flushed', () => flushedByJobs() > before, { timeoutMs: 20_000 })
}

async function sizesOf(pool: pg.Pool): Promise<Sizes> {
  const { rows } = await pool.query(`
    SELECT relname AS name, pg_relation_size(oid) AS bytes FROM pg_class
    WHERE oid IN ('pending_usage'::regclass, 'pending_usage_pkey'::regclass)
    UNION ALL SELECT name, pg_total_relation_size(name::regclass) FROM unnest(ARRAY['workspace_usage_day', 'workspaces']) AS name
    UNION ALL SELECT 'pgboss', sum(pg_total_relation_size(oid))::bigint FROM pg_class
      WHERE relnamespace = 'pgboss'::regnamespace AND relkind = 'r'`)
  return Object.fromEntries(rows.map(({ name, bytes }) => [name, Number(bytes)]))
}

function describe(sizes: Sizes): string {
  return NAMES.map(name => `${name} ${(sizes[name]! / 1e6).toFixed(1)}`).join(', ')
}
