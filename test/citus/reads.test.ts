import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { countSource, ignoreSource } from '../../src/activity/counting.ts'
import { explainUsage } from '../../src/activity/explain.ts'
import { usageHealth } from '../../src/activity/health.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { idleForecast } from '../../src/activity/idle-forecast.ts'
import { pendingStatus } from '../../src/activity/status.ts'
import { diagnose } from '../../src/doctor/diagnose.ts'
import { flush } from '../../src/flush/flush.ts'
import { clearHistory } from '../../src/history/clear-history.ts'
import { importUsage } from '../../src/import/import-usage.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { reapIdle } from '../../src/reaper/reap-idle.ts'
import { createWorkspaces, lastUsedAt, storeClosedMarks } from '../support/seed.ts'
import { clusterOfRun } from './support/cluster.ts'
import { type ClusterDatabase, createClusterDatabase } from './support/cluster-database.ts'

const cluster = await clusterOfRun()
const skip = typeof cluster === 'string' ? cluster : false
const DAY_MS = 86_400_000

async function migratedDatabase(periodSeconds = 3_600): Promise<ClusterDatabase> {
  if (typeof cluster === 'string') throw new Error(cluster)
  return await createClusterDatabase(cluster, { periodSeconds, shards: 4 })
}

/** The plan of a query as text. */
async function planOf(pool: pg.Pool, query: string): Promise<string> {
  const { rows } = await pool.query(`EXPLAIN ${query}`)
  return rows.map(row => row['QUERY PLAN']).join('\n')
}

test('a query of one workspace goes to one shard, and finds its marks by an index', { skip }, async () => {
  const { pool } = await migratedDatabase()
  const [id] = await createWorkspaces(pool, 1)
  for (const view of ['workspace_activity', 'workspace_activity_by_source', 'workspace_usage_daily']) {
    const plan = await planOf(pool, `SELECT * FROM ${view} WHERE workspace_id = '${id}'`)
    assert.match(plan, /Task Count: 1\n/, view)
    assert.doesNotMatch(plan, /Subplan/, `${view} reads nothing elsewhere first`)
    assert.match(plan, /pending_usage_workspace_\d+/, view)
  }
})

test('a query of all workspaces runs on each shard, and only counts or sorts on the coordinator', {
  skip,
}, async () => {
  const { pool } = await migratedDatabase()
  for (const view of ['workspace_activity', 'workspace_activity_by_source', 'workspace_usage_daily']) {
    const plan = await planOf(pool, `SELECT * FROM ${view} ORDER BY last_used_at LIMIT 10`)
    assert.match(plan, /Task Count: 4\n/, view)
    const subplans = plan.match(/Distributed Subplan/g) ?? []
    assert.ok(subplans.length <= 1, `${view} asks at most for the sources that do not count before`)
  }
})

test('idle lists, forecasts and the reaper see all shards, with what is pending', { skip }, async () => {
  const { pool } = await migratedDatabase()
  const ids = await createWorkspaces(pool, 30)
  await storeClosedMarks(pool, ids.slice(0, 20), { agoMs: 2 * DAY_MS })
  await flush(pool)
  await markUsage(pool, ids.slice(0, 5))
  const idle: string[] = []
  for await (const { workspaceId } of idleWorkspaces(pool, {
    idleForSeconds: 86_400,
    neverUsed: false,
    pageSize: 4,
  }))
    idle.push(workspaceId)
  assert.deepEqual(idle.sort(), ids.slice(5, 20))
  const forecast = await idleForecast(pool, { idleForSeconds: 86_400 })
  assert.deepEqual([forecast.workspaces, forecast.due, forecast.inUse, forecast.neverUsed], [30, 15, 5, 10])
  const stopped: string[] = []
  const reap = () =>
    reapIdle({
      pool,
      idleFor: '1d',
      maxPerMinute: 10_000,
      stop: (_client, id) => stopped.push(id),
    })
  await reap()
  assert.deepEqual(stopped.sort(), ids.slice(5, 20))
  await reap()
  assert.equal(stopped.length, 15, 'none is stopped twice')
  await pool.query('DELETE FROM workspaces WHERE id = $1', [ids[6]])
  await reap()
  const { rows } = await pool.query('SELECT FROM stopped_workspaces')
  assert.equal(rows.length, 14, 'what is deleted is forgotten')
})

test('a source that does not count moves nothing, on every node, and counts again when it is told', {
  skip,
}, async () => {
  const database = await migratedDatabase()
  const { pool } = database
  const [both, one] = await createWorkspaces(pool, 2)
  const old = await storeClosedMarks(pool, [both!], { source: 'ssh', agoMs: 3 * DAY_MS })
  await storeClosedMarks(pool, [both!, one!], { source: 'cron', agoMs: DAY_MS })
  await flush(pool)
  assert.deepEqual(await ignoreSource(pool, 'cron'), { already: false })
  assert.deepEqual(await ignoreSource(pool, 'cron'), { already: true })
  const node = new pg.Pool({ connectionString: database.workers[0] })
  for (const asked of [pool, node]) {
    assert.deepEqual((await explainUsage(asked, both!)).lastUsedAt, old)
    assert.equal((await explainUsage(asked, one!)).lastUsedAt, null)
  }
  await node.end()
  const late = await storeClosedMarks(pool, [one!], { source: 'cron', agoMs: 60_000 })
  await flush(pool)
  assert.notDeepEqual(await lastUsedAt(pool, [one!]), [late])
  assert.deepEqual(await countSource(pool, 'cron'), { already: false, restored: 1 })
  await flush(pool)
  assert.deepEqual(await lastUsedAt(pool, [one!]), [late])
})

test('a workspace is in use until a time, and until that is ended, by a mark on any node', {
  skip,
}, async () => {
  const database = await migratedDatabase()
  const { pool } = database
  const [id] = await createWorkspaces(pool, 1)
  const node = new pg.Pool({ connectionString: database.workers[0] })
  const until = new Date(Date.now() + 3_600_000)
  await markUsage(node, [id!], { source: 'job', until })
  await markUsage(pool, [id!], { source: 'job', until: new Date(Date.now() + 60_000) })
  assert.deepEqual((await explainUsage(pool, id!)).usedUntil, until)
  const { rows } = await node.query("SELECT end_usage_until($1, 'job')::int AS ended", [id])
  assert.equal(rows[0].ended, 1)
  assert.equal((await explainUsage(node, id!)).usedUntil, null)
  await node.end()
})

test('the status, the verdict and the doctor answer on a cluster', { skip }, async () => {
  const { pool } = await migratedDatabase()
  const ids = await createWorkspaces(pool, 10)
  await storeClosedMarks(pool, [...ids, crypto.randomUUID()])
  await markUsage(pool, ids)
  await flush(pool)
  const { open, awaited, lagSeconds } = await pendingStatus(pool)
  assert.deepEqual({ open, awaited, lagSeconds }, { open: 10, awaited: 1, lagSeconds: 0 })
  const health = await usageHealth(pool)
  assert.notEqual(health.asOf, null)
  assert.deepEqual(
    health.problems.filter(({ severity }) => severity === 'critical'),
    [],
  )
  const { findings } = await diagnose(pool)
  assert.deepEqual(
    findings.filter(({ severity }) => severity === 'critical' || severity === 'warning'),
    [],
  )
})

test('use of the past is imported on each shard, and a second time changes nothing', { skip }, async () => {
  const { pool } = await migratedDatabase()
  const ids = await createWorkspaces(pool, 20)
  const rows = [...ids, crypto.randomUUID()].map(workspaceId => ({
    workspaceId,
    usedAt: '2026-01-02T03:04:05Z',
    source: 'old',
  }))
  const done = await importUsage(pool, rows)
  assert.deepEqual([done.imported, done.updated, done.refusedBy.unknown], [20, 20, 1])
  const again = await importUsage(pool, rows)
  assert.deepEqual([again.imported, again.updated], [20, 0])
  assert.deepEqual((await explainUsage(pool, ids[0]!)).sources[0]?.source, 'old')
})

test('old history is cleared on each shard, and the last use of a source stays', { skip }, async () => {
  const { pool } = await migratedDatabase(30)
  const ids = await createWorkspaces(pool, 10)
  for (const days of [50, 40, 3]) await storeClosedMarks(pool, ids.slice(0, 5), { agoMs: days * DAY_MS })
  await storeClosedMarks(pool, ids.slice(5), { agoMs: 50 * DAY_MS })
  await flush(pool)
  assert.deepEqual(await clearHistory(pool, { historyDays: 30 }), { cleared: 10, orphans: 0 })
  assert.deepEqual(await clearHistory(pool, { historyDays: 30 }), { cleared: 0, orphans: 0 })
  const { rows } = await pool.query('SELECT count(*)::int AS days FROM workspace_usage_day')
  assert.equal(rows[0].days, 10)
})
