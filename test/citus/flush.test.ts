import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { withClusterDatabase } from './support/cluster-database.ts'

await withClusterDatabase({}, database => {
  const { pool } = database
  beforeEach(async () => {
    await pool.query('TRUNCATE pending_usage, set_aside_usage, refused_usage, workspaces CASCADE')
    await pool.query('DELETE FROM source_usage')
  })

  test('a flush of all shards moves exactly what is due, and sums what each has done', async () => {
    const ids = await createWorkspaces(pool, 300)
    const used = ids.slice(0, 200)
    const ssh = await storeClosedMarks(pool, used, { agoMs: 60_000, source: 'ssh' })
    const ide = await storeClosedMarks(pool, used.slice(0, 50), { agoMs: 30_000, source: 'ide' })
    await storeClosedMarks(pool, used, { agoMs: -60_000, source: 'ssh' })
    assert.deepEqual(await flush(pool), {
      flushed: 250,
      workspaces: 200,
      updated: 200,
      unknown: 0,
      held: 0,
      awaited: 0,
      refused: 0,
      bySource: { ssh: 200, ide: 50 },
      refusals: [],
      emptied: false,
      reset: null,
      full: false,
      shardsLeft: [],
    })
    const times = await lastUsedAt(pool, ids)
    const expected = [ide, ssh, null].map(time => time?.getTime() ?? null)
    assert.deepEqual(
      times.map(time => time?.getTime() ?? null),
      ids.map((_, index) => expected[index < 50 ? 0 : index < 200 ? 1 : 2]),
    )
    assert.equal(await pendingCount(pool), 200, 'marks of the open period stay')
    const { rows } = await pool.query(
      `SELECT source, count(*)::integer AS workspaces FROM workspace_usage_day GROUP BY source ORDER BY source`,
    )
    assert.deepEqual(rows, [
      { source: 'ide', workspaces: 50 },
      { source: 'ssh', workspaces: 200 },
    ])
  })

  test('sources are on record with their last use, and a source that does not count moves nothing', async () => {
    const ids = await createWorkspaces(pool, 20)
    await storeClosedMarks(pool, ids, { source: 'poller', agoMs: 90_000 })
    const first = await flush(pool)
    await pool.query("UPDATE source_usage SET counts = false WHERE source = 'poller'")
    const before = await lastUsedAt(pool, ids)
    const last = await storeClosedMarks(pool, ids, { source: 'poller' })
    const second = await flush(pool)
    assert.deepEqual([first.updated, second.flushed, second.updated], [20, 20, 0])
    assert.deepEqual(await lastUsedAt(pool, ids), before)
    const { rows } = await pool.query(
      "SELECT source, date_trunc('milliseconds', last_used_at) AS last FROM source_usage",
    )
    assert.deepEqual(rows, [{ source: 'poller', last }])
  })

  test('the chain goes on while any shard is full, and a drain takes everything', async () => {
    const ids = await createWorkspaces(pool, 400)
    await storeClosedMarks(pool, ids)
    const { full, flushed } = await flush(pool, { batchSize: 10 })
    assert.equal(full, true)
    assert.equal(flushed, 80, 'ten of each of eight shards')
    const rest = await drain(pool, { batchSize: 10 })
    assert.equal(rest.flushed, 320)
    assert.ok(rest.flushes > 1)
    assert.equal(await pendingCount(pool), 0)
  })

  test('flushes that run at the same time take each mark once', async () => {
    const ids = await createWorkspaces(pool, 500)
    await storeClosedMarks(pool, ids)
    const results = await Promise.all(Array.from({ length: 4 }, () => flush(pool)))
    assert.equal(
      results.reduce((sum, { flushed }) => sum + flushed, 0),
      500,
    )
    assert.equal(await pendingCount(pool), 0)
  })

  test('what is set for the database on the nodes changes nothing', async () => {
    const name = `"${database.name}"`
    // Citus sets it on all nodes.
    for (const setting of [
      "default_transaction_isolation = 'serializable'",
      "DateStyle = 'SQL, DMY'",
      "IntervalStyle = 'sql_standard'",
      "TimeZone = 'Pacific/Kiritimati'",
      'standard_conforming_strings = off',
      'lock_timeout = 0',
    ]) {
      await database.pool.query(`ALTER DATABASE ${name} SET ${setting}`)
    }
    const ids = await createWorkspaces(database.pool, 50)
    await storeClosedMarks(database.pool, ids, { source: "it's \\ a source" })
    const client = await database.connect()
    const { flushed, updated, bySource, shardsLeft } = await flush(client)
    assert.deepEqual([flushed, updated, bySource, shardsLeft], [50, 50, { "it's \\ a source": 50 }, []])
  })
})
