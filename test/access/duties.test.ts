import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type pg from 'pg'
import { PgBoss } from 'pg-boss'
import { grantPrivileges } from '../../src/access/grant.ts'
import { explainUsage } from '../../src/activity/explain.ts'
import { usageHistory } from '../../src/activity/history.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { lastFlush } from '../../src/activity/last-flush.ts'
import { flush } from '../../src/flush/flush.ts'
import { noticeReset } from '../../src/flush/reset.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { mayKeepQueueStats } from '../../src/worker/queue-stats.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

const server15 = await testServer15()

for (const major of [18, 15] as const) {
  const on = major === 18 ? await testServer() : server15
  suite(`duties on PostgreSQL ${major}`, { skip: on === null && POSTGRES_15_MISSING }, async () => {
    if (on !== null) await dutiesOn(on, major)
  })
}

async function dutiesOn(server: string, major: 18 | 15): Promise<void> {
  const [marker, worker, reader] = await Promise.all(
    ['marker', 'worker', 'reader'].map(duty => createLoginRole(server, duty)),
  )
  const database = await createTestDatabase(major === 15 ? { on: server } : {})
  const { pool } = database
  await pool.query(`ALTER TABLE workspaces ADD COLUMN name text NOT NULL DEFAULT 'mine'`)
  // A careful host does this. A marker must still be able to call the default of period_end.
  await pool.query('REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public, pgboss FROM PUBLIC')
  const duties = { markers: [marker!.name], workers: [worker!.name], readers: [reader!.name] }
  await grantPrivileges(pool, duties)
  const [id] = await createWorkspaces(pool, 1)

  test(`a marker can mark with and without a source on PostgreSQL ${major}`, async () => {
    const db = marker!.pool(database)
    assert.deepEqual(await markUsage(db, id!, { source: 'ssh' }), { marked: 1, stored: 1 })
    assert.deepEqual(await markUsage(db, [id!], { source: 'ssh' }), { marked: 1, stored: 0 })
    assert.deepEqual(await markUsage(db, id!), { marked: 1, stored: 1 })
    await db.query('INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING', [id])
  })

  test(`a marker can neither choose a period, read or delete marks, nor touch another table on PostgreSQL ${major}`, async () => {
    await refused(marker!.pool(database), [
      `INSERT INTO pending_usage (workspace_id, period_end) VALUES ('${id}', now())`,
      `INSERT INTO pending_usage (workspace_id) VALUES ('${id}') RETURNING period_end`,
      `INSERT INTO pending_usage (workspace_id, source) VALUES ('${id}', 'ssh')
        ON CONFLICT (period_end, workspace_id, source) DO UPDATE SET source = 'x'`,
      'SELECT workspace_id FROM pending_usage',
      `UPDATE pending_usage SET source = 'x'`,
      'DELETE FROM pending_usage',
      'TRUNCATE pending_usage',
      'SELECT FROM pending_usage_witness',
      'SELECT FROM set_aside_usage',
      'SELECT FROM refused_usage',
      ...foreign(id!),
    ])
  })

  test(`the role of a worker can flush and restore the witness on PostgreSQL ${major}`, async () => {
    const db = worker!.pool(database)
    // The period of the marks of other tests may close at any time.
    await pool.query('TRUNCATE pending_usage')
    const periodEnd = await storeClosedMarks(pool, [id!], { source: 'ssh' })
    const { flushed, updated } = await flush(db)
    assert.deepEqual({ flushed, updated }, { flushed: 1, updated: 1 })
    assert.deepEqual(await lastUsedAt(pool, [id!]), [periodEnd])
    // The first flush inserted the row of the source. This one updates it.
    await storeClosedMarks(pool, [id!], { source: 'ssh', agoMs: 1 })
    assert.equal((await flush(db)).updated, 1)
    assert.equal((await noticeReset(db)) !== null, false)
    await pool.query('TRUNCATE pending_usage_witness')
    assert.equal((await noticeReset(db)) !== null, true)
  })

  test(`a worker with the privileges of its duty starts, flushes in jobs and stops without a warning on PostgreSQL ${major}`, async () => {
    await pool.query('TRUNCATE pending_usage')
    const ids = await createWorkspaces(pool, 25)
    const periodEnd = await storeClosedMarks(pool, ids)
    const log = collectLog()
    {
      await using _worker = await startFlushWorker({
        database: worker!.connectionString(database),
        logger: log.logger,
        flushIntervalSeconds: 1,
        batchSize: 10,
      })
      await until('all marks are flushed', async () => (await pendingCount(pool)) === 0)
      await storeClosedMarks(pool, ids, { agoMs: 1 })
      await until('marks of later are flushed', async () => (await pendingCount(pool)) === 0)
    }
    assert.deepEqual(
      log.lines.filter(({ level }) => level === 'warn' || level === 'error'),
      [],
    )
    const [used] = await lastUsedAt(pool, ids)
    assert.ok(used! >= periodEnd)
    assert.ok((await lastFlush(worker!.pool(database))) !== null)
  })

  test(`a worker keeps no history of queues, so the upkeep of pg-boss works even after 40 days on PostgreSQL ${major}`, async () => {
    assert.equal(await mayKeepQueueStats(pool), true)
    const persistQueueStats = await mayKeepQueueStats(worker!.pool(database))
    assert.equal(persistQueueStats, false)
    const { rows: functions } = await pool.query(
      `SELECT pg_get_functiondef('pgboss.job_now()'::regprocedure) AS definition`,
    )
    await pool.query(`CREATE OR REPLACE FUNCTION pgboss.job_now() RETURNS timestamptz LANGUAGE sql STABLE
      AS $$ SELECT pg_catalog.now() + interval '40 days' $$`)
    const upkeep = async (persistQueueStats: boolean) => {
      const boss = new PgBoss({
        connectionString: worker!.connectionString(database),
        migrate: false,
        createSchema: false,
        supervise: false,
        schedule: false,
        persistQueueStats,
      })
      boss.on('error', () => {})
      await boss.start()
      try {
        await boss.supervise(FLUSH_QUEUE)
      } finally {
        await boss.stop({ graceful: false })
      }
    }
    try {
      await pool.query('UPDATE pgboss.queue SET monitor_on = NULL')
      await assert.rejects(upkeep(true), { code: '42501' })
      await upkeep(persistQueueStats)
      const { rows } = await pool.query('SELECT monitor_on FROM pgboss.queue WHERE name = $1', [FLUSH_QUEUE])
      assert.ok(rows[0].monitor_on instanceof Date)
    } finally {
      await pool.query(functions[0].definition)
    }
  })

  test(`the role of a worker can write no other column of workspaces than last_used_at, and can create nothing, on PostgreSQL ${major}`, async () => {
    await refused(worker!.pool(database), [
      `UPDATE workspaces SET name = 'x'`,
      'UPDATE workspaces SET id = gen_random_uuid()',
      'SELECT name FROM workspaces',
      'INSERT INTO workspaces DEFAULT VALUES',
      'DELETE FROM workspaces',
      'TRUNCATE workspaces CASCADE',
      `INSERT INTO pending_usage (workspace_id) VALUES ('${id}')`,
      'UPDATE pending_usage SET period_end = now()',
      `UPDATE workspace_usage SET source = 'x'`,
      'DELETE FROM pending_usage_witness',
      'UPDATE pending_usage_witness SET present = true',
      'TRUNCATE set_aside_usage',
      'TRUNCATE refused_usage',
      'CREATE TABLE public.mine ()',
      'CREATE TABLE pgboss.mine ()',
      'CREATE SCHEMA mine',
      'ALTER TABLE pending_usage ADD COLUMN mine int',
      // A row of pgboss.bam is a command that the next migration runs as the owner.
      `INSERT INTO pgboss.bam (name, version, status, table_name, command)
        VALUES ('x', 1, 'pending', 'job', 'x')`,
      `UPDATE pgboss.bam SET command = 'x'`,
      'DELETE FROM pgboss.version',
      'DELETE FROM pgboss.queue',
    ])
  })

  test(`a reader can read the last use of a workspace, pending use included, on PostgreSQL ${major}`, async () => {
    const db = reader!.pool(database)
    await pool.query('TRUNCATE pending_usage')
    const [used, idle] = await createWorkspaces(pool, 2)
    const at = await storeClosedMarks(pool, [used!], { source: 'ssh' })
    const { lastUsedAt: last, sources } = await explainUsage(db, used!)
    assert.deepEqual([last, sources.map(({ source }) => source)], [at, ['ssh']])
    const history = await usageHistory(db, used!)
    assert.deepEqual(history.sources[0]?.intervals.at(-1)?.until, at)
    const listed = []
    for await (const { workspaceId } of idleWorkspaces(db, { idleForSeconds: 3_600 }))
      listed.push(workspaceId)
    assert.ok(listed.includes(idle!) && !listed.includes(used!))
  })

  test(`a reader can read no table and write nothing on PostgreSQL ${major}`, async () => {
    await refused(reader!.pool(database), [
      'SELECT FROM pending_usage',
      'SELECT FROM workspace_usage',
      'SELECT FROM set_aside_usage',
      'SELECT id FROM workspaces',
      `INSERT INTO pending_usage (workspace_id) VALUES ('${id}')`,
      'SELECT usage_period_end()',
      `UPDATE workspaces SET last_used_at = now()`,
      'CREATE TABLE public.mine ()',
      'SELECT FROM pgboss.job',
    ])
  })
}

/** Statements on other tables than pending_usage that a marker may not run. */
function foreign(id: string): string[] {
  return [
    'SELECT id FROM workspaces',
    `UPDATE workspaces SET last_used_at = now() WHERE id = '${id}'`,
    'SELECT FROM workspace_usage',
    'SELECT FROM workspace_activity',
    'SELECT FROM workspace_activity_by_source',
    'SELECT FROM pgboss.job',
    'CREATE TABLE public.mine ()',
  ]
}

async function refused(db: pg.Pool, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await assert.rejects(db.query(statement), { code: '42501' }, statement)
}
