import assert from 'node:assert/strict'
import { test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, storeClosedMarks } from '../support/seed.ts'
import { createMigratedClusterDatabase } from './support/cluster-database.ts'
import { startOwnCluster } from './support/own-cluster.ts'
import { idsOn } from './support/placement.ts'

test('a node that is down holds up only its own shards, and its loss is noticed and named', async t => {
  const cluster = await startOwnCluster(t)
  if (!cluster) return
  const database = await createMigratedClusterDatabase(cluster)
  const { pool } = database
  const [, second] = cluster.workerServers
  const down = `127.0.0.1:${second!.port}`
  const ids = await createWorkspaces(pool, 200)
  const there = await idsOn(pool, ids, second!.port)
  const elsewhere = ids.filter(id => !there.includes(id))
  assert.ok(there.length > 0 && elsewhere.length > 0)

  await storeClosedMarks(pool, ids)
  const first = await flush(pool)
  assert.deepEqual([first.flushed, first.reset, first.shardsLeft], [200, null, []])

  const periodEnd = await storeClosedMarks(pool, ids)
  await second!.shutDown('immediate')
  const partly = await flush(pool)
  assert.deepEqual([partly.flushed, partly.full, partly.reset], [elsewhere.length, false, null])
  assert.deepEqual(
    partly.shardsLeft?.map(({ node, shards }) => ({ node, shards })),
    [{ node: down, shards: 4 }],
  )
  assert.match(partly.shardsLeft![0]!.message, /its marks stay/i)

  await second!.startUp()
  // A connection that the coordinator has kept is broken, and the first flush after that may fail.
  const back = await until('a flush notices the loss', () => flush(pool), {
    accept: ({ reset }) => reset !== null,
  })
  assert.deepEqual([back.reset!.reason, back.reset!.nodes, back.emptied], ['crash', [down], true])
  assert.ok(back.reset!.flushedUntil! < periodEnd, 'the lost marks are after what is known to be flushed')
  const { rows } = await pool.query<{ since: Date }>('SELECT usage_complete_since() AS since')
  assert.deepEqual(rows[0]!.since, back.reset!.completeSince)
  const again = await flush(pool)
  assert.deepEqual([again.reset, again.emptied], [null, false])

  const times = await lastUsedAt(pool, elsewhere)
  assert.ok(times.every(time => time?.getTime() === periodEnd.getTime()))
  await storeClosedMarks(pool, there)
  assert.equal((await flush(pool)).flushed, there.length)
})
