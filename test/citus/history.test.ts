import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, pendingCount } from '../support/seed.ts'
import { withClusterDatabase } from './support/cluster-database.ts'
import { MarkHistory } from './support/history.ts'
import { moveShard } from './support/move-shard.ts'

/** How long to mark: more by hand, such as a minute. */
const SECONDS = Number(process.env.CITUS_HISTORY_SECONDS ?? 8)
const PERIOD_MS = 500

const LAST_USES = `SELECT id, (extract(epoch FROM last_used_at) * 1000)::text AS ms, (
    extract(epoch FROM greatest(
      (SELECT max(last_used_at) FROM workspace_usage u WHERE u.workspace_id = id),
      (SELECT max(last_used_at) FROM workspace_usage_day u WHERE u.workspace_id = id)
    )) * 1000)::text AS "bySource"
  FROM workspaces`

await withClusterDatabase({ periodSeconds: PERIOD_MS / 1_000 }, database => {
  const { pool } = database
  test('whatever happens at once, each mark that was acknowledged is flushed, nothing beyond, nothing backwards', async t => {
    const ids = await createWorkspaces(pool, 400)
    const deleted = ids.slice(0, 40)
    const kept = ids.slice(40)
    const history = new MarkHistory()
    const calm = new AbortController()
    const counts = { flushed: 0, flushes: 0, moved: 0, killed: 0, held: 0, looked: 0 }
    const errors = new Map<string, number>()
    const some = (most: number) =>
      Array.from({ length: randomInt(1, most) }, () => ids[randomInt(ids.length)]!)

    /** Does something again and again until the end. Its errors are counted. */
    const again = async (pauseMs: number, act: () => Promise<unknown>) => {
      while (!calm.signal.aborted) {
        await act().catch((error: { code?: string; message: string }) => {
          const text = `${error.code}: ${error.message}`
          errors.set(text, (errors.get(text) ?? 0) + 1)
        })
        await delay(randomInt(pauseMs, 2 * pauseMs), undefined, { signal: calm.signal }).catch(() => {})
      }
    }

    const markers = [database.connectionString, ...database.workers].map(connectionString => {
      const own = new pg.Pool({ connectionString, max: 3, application_name: 'history marker' })
      own.on('error', () => {})
      own.on('connect', client => client.on('error', () => {}))
      return own
    })
    const trackers = markers.map(
      own => new UsageTracker(own, { source: 'tracker', logger: collectLog().logger }),
    )
    const flusher = new pg.Pool({
      ...pool.options,
      connectionString: database.connectionString,
      application_name: 'history flush',
    })
    flusher.on('error', () => {})
    flusher.on('connect', client => client.on('error', () => {}))

    const lanes = [
      ...markers.flatMap((own, number) => [
        again(10, async () => {
          const marked = some(number === 0 ? 2 : 20)
          const began = Date.now()
          await history.of(marked, began, () => markUsage(own, marked, { source: `statement ${number}` }))
        }),
        again(30, async () => {
          const marked = some(60)
          const began = Date.now()
          for (const id of marked) trackers[number]!.mark(id)
          await history.of(marked, began, () => trackers[number]!.drain())
        }),
      ]),
      again(50, async () => {
        const marked = some(3)
        const client = await markers[0]!.connect()
        try {
          await client.query('BEGIN')
          const began = Date.now()
          await history.of(marked, began, async () => {
            await markUsage(client, marked, { source: 'transaction' })
            await delay(randomInt(1_500))
            await client.query('COMMIT')
          })
        } finally {
          client.release(true)
        }
      }),
      ...[1, 2].map(() =>
        again(20, async () => {
          const { flushed } = await flush(flusher, { batchSize: randomInt(5, 400) })
          counts.flushed += flushed
          counts.flushes++
        }),
      ),
      again(20, async () => {
        const holder = await database.connect()
        try {
          await holder.query('BEGIN')
          await holder.query('SELECT FROM workspaces WHERE id = $1 FOR UPDATE', [ids[randomInt(ids.length)]])
          counts.held++
          await delay(randomInt(400))
          await holder.query('ROLLBACK')
        } finally {
          await holder.end()
        }
      }),
      again(100, async () => {
        const id = deleted[randomInt(deleted.length)]
        await pool.query('DELETE FROM workspaces WHERE id = $1', [id])
        await delay(randomInt(300))
        await pool.query('INSERT INTO workspaces (id) VALUES ($1) ON CONFLICT DO NOTHING', [id])
      }),
      again(200, async () => {
        const { rows } = await pool.query(`${LAST_USES} WHERE id = ANY ($1)`, [kept])
        history.look(rows)
        counts.looked++
      }),
      again(300, async () => {
        const { rowCount } = await pool.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND state = 'active' AND application_name LIKE 'history %' LIMIT 1`,
        )
        counts.killed += rowCount!
      }),
      again(500, async () => {
        const client = await database.connect()
        try {
          await moveShard(client, database)
          counts.moved++
        } finally {
          await client.end()
        }
      }),
    ]
    await delay(SECONDS * 1_000)
    calm.abort()
    await Promise.all(lanes)
    await Promise.all(trackers.map(tracker => tracker.close()))
    history.ended()
    // By itself Citus does that once a minute.
    await database.recover()
    await until('all marks are flushed', async () => {
      counts.flushed += (await drain(flusher, { unknownAfterSeconds: 0 })).flushed
      return (await pendingCount(pool)) === 0
    })
    const { rows } = await pool.query(`${LAST_USES} WHERE id = ANY ($1)`, [kept])
    assert.equal(rows.length, kept.length)
    t.diagnostic(
      JSON.stringify({ acknowledged: history.acknowledged, ...counts, errors: Object.fromEntries(errors) }),
    )
    assert.deepEqual(history.judge(rows, PERIOD_MS), [])
    assert.ok(history.acknowledged > 0 && counts.flushed > 0 && counts.moved > 0)
    await Promise.all([...markers, flusher].map(own => own.end()))
  })
})
