import assert from 'node:assert/strict'
import { test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { createClusterDatabase } from './support/cluster-database.ts'
import { startOwnCluster } from './support/own-cluster.ts'
import { idsByWorker } from './support/placement.ts'

const cluster = await startOwnCluster()
if (typeof cluster === 'string') test('a node of a Citus cluster that is down', { skip: cluster }, () => {})
else {
  const database = await createClusterDatabase(cluster)
  const { pool } = database
  const node = cluster.servers[0]!
  // Before anything is down: a session of the coordinator learns only by an error that a node has restarted.
  const ids = await createWorkspaces(pool, 200)
  const [its, others] = (await idsByWorker(database, ids)) as [string[], string[]]
  const address = `127.0.0.1:${node.port}`

  test('a crash of a node empties the marks of its shards, and the next flush names the node once', async () => {
    const used = await storeClosedMarks(pool, ids)
    await node.crash()
    // The first one may fail: the session has connections to the node as it was before.
    const { flushed, reset } = await until('a flush has new connections', () => flush(pool))
    assert.equal(flushed, others.length)
    assert.deepEqual([reset?.reason, reset?.nodes], ['crash', [address]])
    assert.deepEqual(await lastUsedAt(pool, its), Array(its.length).fill(null))
    assert.deepEqual(await lastUsedAt(pool, others), Array(others.length).fill(used))
    assert.equal((await flush(pool)).reset, null)
  })

  test('a node that is down holds up the flush of its own shards only, and loses nothing in a clean stop', async () => {
    await storeClosedMarks(pool, ids)
    await node.shutDown('fast')
    const { flushed, shardsLeft, reset } = await flush(pool)
    assert.deepEqual({ flushed, reset }, { flushed: others.length, reset: null })
    assert.deepEqual(
      shardsLeft!.map(({ node, shards }) => ({ node, shards })),
      [{ node: address, shards: 4 }],
    )
    await node.startUp()
    const after = await flush(pool)
    assert.deepEqual([after.flushed, after.shardsLeft, after.reset], [its.length, [], null])
  })

  test('while a node is down, a tracker stores the marks of the other nodes, and keeps those of this one', async () => {
    const { logger, find } = collectLog()
    await using tracker = new UsageTracker(pool, { source: 'tracker', logger })
    await node.shutDown('immediate')
    for (const id of ids) tracker.mark(id)
    for (const id of its) tracker.mark(id)
    await until('the marks of the other nodes are stored', () => tracker.stats().stored === others.length)
    assert.equal(tracker.stats().pending, its.length)
    assert.ok(find('marks failed to be stored').length > 0)
    await assert.rejects(markUsage(pool, its[0]!), /127\.0\.0\.1/)
    assert.deepEqual(await markUsage(pool, others[0]!), { marked: 1, stored: 1 })
    await node.startUp()
    await tracker.drain()
    const { stored, pending, marked, deduplicated } = tracker.stats()
    assert.deepEqual({ stored, pending, marked }, { stored: 200, pending: 0, marked: 200 + its.length })
    assert.equal(deduplicated, its.length)
    assert.equal(await pendingCount(pool), 201)
  })
}
