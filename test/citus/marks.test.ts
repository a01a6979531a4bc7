import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import pg from 'pg'
import { markUsage } from '../../src/mark/mark.ts'
import { marksBySource } from '../../src/mark/marks-by-source.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { endUsage } from '../../src/mark/until.ts'
import { atEnd } from '../support/at-end.ts'
import { CENTURY } from '../support/period.ts'
import { createWorkspaces, pendingCount } from '../support/seed.ts'
import { withClusterDatabase } from './support/cluster-database.ts'

await withClusterDatabase({ periodSeconds: CENTURY }, database => {
  const worker = new pg.Pool({ connectionString: database.workers[0], max: 4 })
  worker.on('error', () => {})
  atEnd(() => worker.end())

  test('a mark is stored once in a period, over the coordinator or over another node', async () => {
    const ids = await createWorkspaces(database.pool, 100)
    assert.deepEqual(await markUsage(database.pool, ids[0]!, { source: 'once' }), { marked: 1, stored: 1 })
    assert.deepEqual(await markUsage(worker, ids[0]!, { source: 'once' }), { marked: 1, stored: 0 })
    await markUsage(worker, ids, { source: 'once' })
    await markUsage(database.pool, ids, { source: 'once' })
    assert.equal(await pendingOf('once'), 100)
  })

  test('a tracker stores each id once, whatever the node, and counts its marks', async () => {
    const ids = Array.from({ length: 3_000 }, () => randomUUID())
    for (const [name, pool] of Object.entries({ coordinator: database.pool, worker })) {
      await using tracker = new UsageTracker(pool, { source: name })
      // The first statement tells that the tables are distributed.
      tracker.mark(ids[0]!)
      await tracker.drain()
      for (const id of ids) tracker.mark(id)
      for (const id of ids) tracker.mark(id)
      await tracker.drain()
      for (const id of ids) tracker.mark(id)
      assert.deepEqual(tracker.stats(), {
        marked: 9_001,
        deduplicated: 6_001,
        stored: 3_000,
        pending: 0,
        dropped: 0,
        failedAttempts: 0,
      })
      assert.equal(await pendingOf(name), 3_000)
      assert.equal(marksBySource().get(name)!.stored, 3_000)
    }
  })

  test('a tracker without a source stores the application_name of its connection, not that of Citus', async () => {
    const ids = Array.from({ length: 40 }, () => randomUUID())
    const pool = new pg.Pool({
      connectionString: database.workers.at(-1),
      application_name: 'ide-proxy',
      max: 1,
    })
    await using tracker = new UsageTracker(pool)
    for (const some of [ids.slice(0, 20), ids.slice(20)]) {
      for (const id of some) tracker.mark(id)
      await tracker.drain()
    }
    assert.equal(await pendingOf('ide-proxy'), 40)
    await tracker.close()
    await pool.end()
  })

  test('batches of the same ids from all nodes at once are all stored, also after a deadlock', async () => {
    const pools = [database.pool, worker]
    for (let round = 0; round < 10; round++) {
      const ids = Array.from({ length: 60 }, () => randomUUID())
      await Promise.all([...pools, ...pools].map(pool => markUsage(pool, ids, { source: 'all at once' })))
    }
    assert.equal(await pendingOf('all at once'), 600)
  })

  test('a use until a time ahead begins and ends, over the coordinator or over another node', async () => {
    const ids = await createWorkspaces(database.pool, 5)
    const until = new Date(Date.now() + 3_600_000)
    assert.deepEqual((await markUsage(database.pool, ids, { source: 'run', until })).until, until)
    assert.deepEqual((await markUsage(worker, ids, { source: 'run', until })).until, until)
    assert.deepEqual(await endUsage(worker, ids.slice(0, 2), { source: 'run' }), { ended: 2 })
    assert.deepEqual(await endUsage(database.pool, ids, { source: 'run' }), { ended: 3 })
    assert.deepEqual(await endUsage(database.pool, ids, { source: 'run' }), { ended: 0 })
  })

  test('a database whose ids are uuids refuses other ids on a cluster too, one by one and in a batch', async () => {
    const before = await pendingCount(database.pool)
    for (const ids of [7, [7, 8]]) {
      await assert.rejects(markUsage(database.pool, ids, { idType: 'bigint' }), {
        name: 'WorkspaceIdTypeError',
        databaseType: 'uuid',
      })
    }
    assert.equal(await pendingCount(database.pool), before)
  })

  async function pendingOf(source: string): Promise<number> {
    const { rows } = await database.pool.query(
      'SELECT count(*)::int AS pending FROM pending_usage WHERE source = $1',
      [source],
    )
    return rows[0].pending
  }
})
