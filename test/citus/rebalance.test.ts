import assert from 'node:assert/strict'
import { test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'
import { withClusterDatabase } from './support/cluster-database.ts'
import { moveShard } from './support/move-shard.ts'

const MOVES = 8

await withClusterDatabase({}, database => {
  const { pool } = database
  test('a flush leaves a shard that Citus is moving, and a move waits for the flush', async () => {
    const ids = await createWorkspaces(pool, 50)
    const periodEnd = await storeClosedMarks(pool, ids)
    const { rows } = await pool.query<{ shard: string; marks: number }>(
      `SELECT get_shard_id_for_distribution_column('pending_usage', workspace_id)::text AS shard, count(*)::integer AS marks
      FROM pending_usage GROUP BY 1 LIMIT 1`,
    )
    const { shard, marks } = rows[0]!
    // As a move locks it, while the rows are copied.
    const move = 'SELECT lock_shard_metadata(7, ARRAY[$1::bigint])'
    await using mover = await openTransaction(database)
    await mover.client.query(move, [shard])
    const { flushed, shardsLeft } = await flush(pool)
    assert.deepEqual([flushed, shardsLeft!.map(left => left.shards)], [ids.length - marks, [1]])
    assert.match(shardsLeft![0]!.message, /moving/)
    assert.equal(await pendingCount(pool), marks)
    await mover.client.query('ROLLBACK')

    await using flusher = await openTransaction(database)
    assert.equal((await flush(flusher.client)).flushed, marks)
    await mover.client.query("BEGIN; SET LOCAL lock_timeout = '50ms'")
    await assert.rejects(mover.client.query(move, [shard]), { code: '55P03' })
    await flusher.client.query('COMMIT')
    await mover.client.query('ROLLBACK')
    assert.ok((await lastUsedAt(pool, ids)).every(time => time?.getTime() === periodEnd.getTime()))
  })

  test('no mark is lost while shards are moved, with marks and flushes going on', async t => {
    const ids = await createWorkspaces(pool, 300)
    const stored = new Map<string, number>()
    let isMoving = true
    const mark = async () => {
      for (let made = 0; isMoving; made++) {
        const id = ids[made % ids.length]!
        const { rows } = await pool.query<{ end: Date }>(
          `INSERT INTO pending_usage (period_end, workspace_id, source)
          VALUES (date_trunc('milliseconds', clock_timestamp()) - interval '1 ms', $1, 'test')
          ON CONFLICT DO NOTHING RETURNING period_end AS end`,
          [id],
        )
        for (const { end } of rows) stored.set(id, Math.max(stored.get(id) ?? 0, end.getTime()))
      }
    }
    let left = 0
    let flushed = 0
    const flushOn = async () => {
      while (isMoving) {
        const result = await flush(pool)
        flushed += result.flushed
        left += result.shardsLeft!.length
      }
    }
    const move = async () => {
      const client = await database.connect()
      try {
        for (let moved = 0; moved < MOVES; moved++) await moveShard(client, database)
      } finally {
        isMoving = false
      }
    }
    await Promise.all([mark(), mark(), flushOn(), move()])
    const last = await flush(pool)
    assert.deepEqual(last.shardsLeft, [])
    assert.equal(await pendingCount(pool), 0)
    const used = [...stored.keys()]
    const times = await lastUsedAt(pool, used)
    const lost = used.filter((id, index) => (times[index]?.getTime() ?? 0) < stored.get(id)!)
    assert.deepEqual(lost, [])
    t.diagnostic(
      `${MOVES} moves, ${stored.size} workspaces marked, ${flushed + last.flushed} marks flushed, 0 lost, ` +
        `shards left to the next flush ${left} times`,
    )
  })
})
