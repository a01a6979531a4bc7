import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { lastFlush } from '../../src/activity/last-flush.ts'
import { createPool } from '../../src/database/pool.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { uninstall } from '../../src/schema/uninstall.ts'
import {
  FAILED_FLUSH_QUEUE,
  FLUSH_QUEUE,
  flushQueues,
  HISTORY_QUEUE,
  PUBLIC_QUEUES,
  queuesOfSchema,
  REAP_QUEUE,
} from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'

test('the queues of each schema have names of their own that pg-boss allows', () => {
  const schemas = [
    'public',
    'app',
    'failed',
    'a.b',
    'a"b',
    'Ab',
    'a b',
    'a.2eb',
    'größe',
    '用法',
    'a-b',
    'a_b',
    "it's",
  ]
  const names = schemas.flatMap(schema => Object.values(queuesOfSchema(schema)))
  assert.equal(new Set(names).size, names.length)
  for (const name of names) assert.match(name, /^[\w.\-/]+$/)
  assert.deepEqual(queuesOfSchema('public'), {
    flush: FLUSH_QUEUE,
    failed: FAILED_FLUSH_QUEUE,
    reap: REAP_QUEUE,
    history: HISTORY_QUEUE,
  })
  assert.deepEqual(queuesOfSchema('größe x'), {
    flush: 'workspace-usage-flush.gr.c3.b6.c3.9fe.20x',
    failed: 'workspace-usage-flush-failed.gr.c3.b6.c3.9fe.20x',
    reap: 'workspace-usage-reap.gr.c3.b6.c3.9fe.20x',
    history: 'workspace-usage-history.gr.c3.b6.c3.9fe.20x',
  })
})

test('the workers of two schemas in one database each flush their own marks only', async () => {
  await flushTheirOwn(await createTestDatabase())
})

test('the workers of two schemas in one database each flush their own marks only on PostgreSQL 15', async t => {
  await onPostgres15(t, flushTheirOwn)
})

async function flushTheirOwn(database: TestDatabase): Promise<void> {
  const { connectionString, pool } = database
  const url = await installIn(database, 'größe')
  const other = createPool(url, { applicationName: 'test', max: 2 })
  const queues = await flushQueues(other)
  assert.equal(queues.flush, 'workspace-usage-flush.gr.c3.b6.c3.9fe')
  const [here] = await createWorkspaces(pool, 1)
  const [there] = await createWorkspaces(other, 1)
  {
    const log = collectLog()
    // Only one of the two runs. It must leave the jobs of the other alone, and must not flush its marks.
    await using _worker = await startFlushWorker({
      database: url,
      logger: log.logger,
      flushIntervalSeconds: 1,
    })
    await storeClosedMarks(pool, [here!])
    await storeClosedMarks(other, [there!])
    await until('the mark of its schema is flushed', async () => (await pendingCount(other)) === 0)
    assert.equal(await pendingCount(pool), 1)
    assert.equal(await lastFlush(pool), null)
    assert.ok(await lastFlush(other))
    await using _second = await startFlushWorker({ database: connectionString, logger: log.logger })
    await until('the other worker flushes the other mark', async () => (await pendingCount(pool)) === 0)
  }
  await other.end()
  const { dropped } = await uninstall({ connectionString: url })
  assert.ok(dropped.includes(`pg-boss queue ${queues.flush}`))
  assert.deepEqual(await queueNames(pool), PUBLIC_QUEUES.toSorted())
}

test('a schema that used the queues of public gets its own at the next migrate, and keeps its interval', async () => {
  const database = await createEmptyDatabase()
  const url = await installIn(database, 'app')
  const { pool } = database
  // As an older release has left it.
  await pool.query(`INSERT INTO pgboss.queue SELECT (jsonb_populate_record(q,
      jsonb_build_object('name', 'workspace-usage-flush' || CASE WHEN q.name LIKE '%failed%' THEN '-failed' ELSE '' END,
        'dead_letter', NULL))).* FROM pgboss.queue q WHERE q.name LIKE 'workspace-usage-flush%'`)
  await pool.query(`INSERT INTO pgboss.schedule (name, cron) VALUES ($1, '*/5 * * * *')`, [FLUSH_QUEUE])
  await pool.query(`DELETE FROM pgboss.schedule WHERE name <> $1`, [FLUSH_QUEUE])
  await migrate({ connectionString: url })
  assert.deepEqual(await queueNames(pool), Object.values(queuesOfSchema('app')).sort())
  assert.deepEqual((await pool.query('SELECT name, cron, data FROM pgboss.schedule')).rows, [
    { name: queuesOfSchema('app').flush, cron: '*/5 * * * *', data: { intervalSeconds: 300 } },
  ])
})

test('the queues of public stay when another schema is migrated and public still uses them', async () => {
  const database = await createTestDatabase()
  await installIn(database, 'app')
  assert.deepEqual(
    await queueNames(database.pool),
    [...Object.values(queuesOfSchema('app')), ...PUBLIC_QUEUES].sort(),
  )
})

async function installIn({ connectionString, pool }: TestDatabase, schema: string): Promise<string> {
  await pool.query(`CREATE SCHEMA ${pg.escapeIdentifier(schema)}`)
  const url = new URL(connectionString)
  url.search = `?options=${encodeURIComponent(`-c search_path=${pg.escapeIdentifier(schema)}`)}`
  await migrate({ connectionString: url.href })
  return url.href
}

async function queueNames(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query(
    `SELECT name FROM pgboss.queue WHERE NOT starts_with(name, '__') ORDER BY name COLLATE "C"`,
  )
  return rows.map(({ name }) => name)
}
