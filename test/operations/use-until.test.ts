import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { endUsage } from '../../src/mark/until.ts'
import { reapIdle } from '../../src/reaper/reap-idle.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { PGBOUNCER_MISSING, startPgBouncer } from '../support/pgbouncer.ts'
import { execution } from '../support/plan.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { flushAsReleaseCandidate } from '../support/release-candidate.ts'
import { createWorkspaces } from '../support/seed.ts'
import { startServer } from '../support/server.ts'

const PG_DUMP = '/usr/lib/postgresql/15/bin/pg_dump'

/** As many as may be in use until a time ahead at once. */
const MANY = 10_000

const source = 'build'
const inAnHour = () => new Date(Date.now() + 3_600_000)

async function usedUntil({ pool }: TestDatabase, id: string): Promise<Date | null> {
  const { rows } = await pool.query('SELECT used_until FROM workspace_activity WHERE workspace_id = $1', [id])
  return rows[0].used_until
}

test('a crash of the server ends it, and the next flush tells the loss; LOGGED tables keep it', async () => {
  const server = await startServer({ synchronous_commit: 'on' })
  const database = await createTestDatabase({ on: server.connectionString })
  const { pool } = database
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  await flush(pool)
  const crash = async () => {
    await server.crash()
    await until('the server answers', () => pool.query('SELECT').catch(() => false))
  }
  await markUsage(pool, id, { until: inAnHour(), source })
  await crash()
  assert.equal(await usedUntil(database, id), null)
  assert.equal((await flush(pool)).reset?.reason, 'crash')

  await migrate({ connectionString: database.connectionString, logged: true })
  const time = inAnHour()
  await markUsage(pool, id, { until: time, source })
  await crash()
  assert.deepEqual(await usedUntil(database, id), time)
  assert.equal((await flush(pool)).reset, null)
})

testOnBothVersions(
  'through PgBouncer in transaction mode, use until a time ahead begins and ends',
  async (database, t) => {
    const pooled = await startPgBouncer(database.connectionString)
    if (pooled === null) return t.skip(PGBOUNCER_MISSING)
    await migrate({ connectionString: database.connectionString })
    const ids = await createWorkspaces(database.pool, 20)
    const pool = heardPool({ connectionString: pooled, max: 5 })
    try {
      const time = inAnHour()
      await Promise.all(ids.map(id => markUsage(pool, id, { until: time, source })))
      for (const id of ids) assert.deepEqual(await usedUntil(database, id), time)
      assert.deepEqual(await endUsage(pool, ids, { source }), { ended: 20 })
    } finally {
      await pool.end()
    }
  },
)

testOnBothVersions(
  'a worker of an older release leaves alone what is in use until a time ahead',
  async database => {
    const { pool, connectionString } = database
    await migrate({ connectionString })
    const [id] = (await createWorkspaces(pool, 1)) as [string]
    const time = inAnHour()
    await markUsage(pool, id, { until: time, source })
    const client = await database.connect()
    const { flushed } = await flushAsReleaseCandidate(client)
    assert.equal(flushed, 0)
    assert.deepEqual(await usedUntil(database, id), time)
  },
)

testOnBothVersions('ten thousand of them do not slow down the lookup of one workspace', async database => {
  const { pool, connectionString } = database
  await migrate({ connectionString })
  const ids = await createWorkspaces(pool, MANY)
  await pool.query('ALTER TABLE set_aside_usage SET (autovacuum_enabled = off)')
  await markUsage(pool, ids, { until: inAnHour(), source })
  await pool.query('TRUNCATE ONLY pending_usage')
  for (const belief of ['nothing', 'the truth']) {
    if (belief === 'the truth') await pool.query('ANALYZE set_aside_usage, workspaces')
    for (const view of ['workspace_activity', 'workspace_activity_by_source']) {
      // The first call in a session compiles no_hidden_usage(), and that reads catalogs.
      const client = await database.connect()
      const lookup = `SELECT * FROM ${view} WHERE workspace_id = '${ids[7]}'`
      await client.query(lookup)
      const { nodes, pages, text } = await execution(client, lookup)
      const scans = nodes.filter(({ type, loops }) => type === 'Seq Scan' && loops > 0)
      assert.deepEqual(
        scans.filter(({ relation }) => relation === 'set_aside_usage'),
        [],
        text,
      )
      assert.ok(pages <= 80, `${view}, believing ${belief}: ${pages} pages\n${text}`)
    }
  }
  const mark = await execution(
    pool,
    `SELECT mark_usage_until('${ids[9]}', now() + interval '2 hours', 'build')`,
  )
  assert.ok(mark.pages <= 500, `${mark.pages} pages`)
})

test('the reaper never stops a workspace that is in use until a time ahead, and stops it when it was ended long ago', async () => {
  const { pool } = await createTestDatabase()
  const [used, idle] = (await createWorkspaces(pool, 2)) as [string, string]
  await pool.query(`UPDATE workspaces SET last_used_at = now() - interval '9 days'`)
  await flush(pool)
  await markUsage(pool, used, { until: inAnHour(), source })
  await pool.query('TRUNCATE ONLY pending_usage')
  const reap = async () => {
    const stopped: string[] = []
    await reapIdle({ pool, idleFor: '1s', maxPerMinute: 60_000, stop: (_, id) => stopped.push(id) })
    return stopped
  }
  assert.deepEqual(await reap(), [idle])
  await endUsage(pool, used, { source })
  await flush(pool)
  assert.deepEqual(await until('it is idle for a second', reap, { accept: stopped => stopped.length > 0 }), [
    used,
  ])
})

test('the functions come out of a restored dump as they went in, and work there', async t => {
  const on = await testServer15()
  if (on === null || !existsSync(PG_DUMP)) return t.skip(POSTGRES_15_MISSING)
  const from = await createTestDatabase({ on })
  await migrate({ connectionString: from.connectionString, untilLimitSeconds: 7_200 })
  const { stdout } = await promisify(execFile)(PG_DUMP, [
    '--no-owner',
    '--schema-only',
    '-d',
    from.connectionString,
  ])
  const target = await createEmptyDatabase({ on })
  await target.pool.query(stdout.replaceAll(/^\\.*$/gm, ''))
  const restored = await target.connect()
  const [id] = (await createWorkspaces(restored, 1)) as [string]
  const time = inAnHour()
  assert.deepEqual((await markUsage(restored, id, { until: time, source })).until, time)
  await assert.rejects(markUsage(restored, id, { until: new Date(Date.now() + 7_300_000) }), /not after/)
  assert.deepEqual(await endUsage(restored, id, { source }), { ended: 1 })
})

testOnBothVersions('the functions go on when the schema of the tables is renamed', async database => {
  const { pool, connectionString } = database
  await migrate({ connectionString })
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  const before = inAnHour()
  await markUsage(pool, id, { until: before, source })
  await pool.query('ALTER SCHEMA public RENAME TO sales; CREATE SCHEMA public')
  const client = await database.connect()
  await client.query('SET search_path = public')
  const { rows } = await client.query(
    `SELECT sales.mark_usage_until($1, $2::timestamptz + interval '1 hour', $3) AS until`,
    [id, before, source],
  )
  assert.equal(rows[0].until.getTime(), before.getTime() + 3_600_000)
  const held = await client.query(`SELECT period_end FROM sales.set_aside_usage WHERE reason = 'until'`)
  assert.deepEqual(held.rows, [{ period_end: rows[0].until }])
  const ended = await client.query('SELECT sales.end_usage_until($1, $2) AS ended', [id, source])
  assert.deepEqual(ended.rows, [{ ended: '1' }])
})
