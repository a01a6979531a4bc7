import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { alternate, atLeast, type Measure, type Result, row, type Stage, type Summary } from '../measure.ts'
import { fromCallers } from '../support/callers.ts'
import { withPool } from '../support/database.ts'
import { missing } from '../support/programs.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { timed, turn } from '../support/timing.ts'

const CALLERS = 10_000
const IDS = 200_000
/** Fewer, because they are slow. They are enough to tell a rate. */
const IDS_ONE_BY_ONE = 20_000
const ROUNDS = 5

const INSERT = 'INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING'

/** Distinct ids from concurrent callers, each of which waits until its id is stored. */
export const trackerDistinct: Measure = {
  name: 'tracker-distinct',
  title: 'Tracker: distinct ids of 10,000 callers, stored',
  run: stage =>
    withPool(stage.million, async pool => {
      const redis = await startRedis()
      try {
        return await measure(stage, pool, redis)
      } finally {
        await redis?.stop()
        await pool.query('TRUNCATE ONLY pending_usage')
      }
    }),
}

async function measure(
  { scaled, progress }: Stage,
  pool: pg.Pool,
  redis: Redis | undefined,
): Promise<Result> {
  const all = Array.from({ length: scaled(IDS) }, () => randomUUID())
  const some = all.slice(0, scaled(IDS_ONE_BY_ONE))
  const cleared = async (ids: readonly string[], store: (ids: readonly string[]) => Promise<unknown>) => {
    await pool.query('TRUNCATE ONLY pending_usage')
    await redis?.client.flushDb()
    return (ids.length / (await timed(() => store(ids)))) * 1_000
  }
  const rounds = scaled(ROUNDS, 1)
  progress(`${rounds} rounds of ${all.length.toLocaleString('en')} ids`)
  const ways: Record<string, () => Promise<number>> = {
    tracker: () => cleared(all, ids => throughTrackers(pool, ids, 1)),
    three: () => cleared(all, ids => throughTrackers(pool, ids, 3)),
    inserts: () => cleared(some, ids => fromCallers(CALLERS, ids, id => pool.query(INSERT, [id]))),
  }
  if (redis)
    ways.redis = () => cleared(all, ids => fromCallers(CALLERS, ids, id => redis.client.sAdd('pending', id)))
  const rates: Record<string, Summary> = await alternate(rounds, ways, { warmUps: scaled(1, 0) })
  const { tracker, three, inserts, redis: sadd } = rates as Record<string, Summary> & { tracker: Summary }
  const toInserts = tracker.median / inserts!.median
  return {
    rows: [
      row('one tracker', 'ids/s', tracker),
      row('three trackers at once', 'ids/s', three!),
      row(`single INSERTs over ${pool.options.max} connections`, 'ids/s', inserts!),
      ...(sadd ? [row('Redis SADD, pipelined by the client', 'ids/s', sadd)] : []),
    ],
    limits:
      'All run in one process with one event loop, beside the server on the same cores. A tracker sends thousands of ids in ' +
      'one statement, and PostgreSQL sorts each into an index. Redis does less for each id, has all of it in memory, and ' +
      'answers each SADD by itself, which is what its client waits for. Its set must still be flushed (`redis`).',
    targets: [
      atLeast('one tracker, to single INSERTs', toInserts, 6, 'times'),
      ...(sadd ? [atLeast('one tracker, to Redis SADD', tracker.median / sadd.median, 1, 'times')] : []),
    ],
    ...(sadd === undefined && { skipped: missing('redis-server') }),
  }
}

/** Several trackers show what more connections would reach. */
async function throughTrackers(pool: pg.Pool, ids: readonly string[], count: number): Promise<void> {
  const trackers = Array.from({ length: count }, () => new UsageTracker(pool, { source: 'bench' }))
  let next = 0
  await fromCallers(CALLERS, ids, id => {
    trackers[next++ % count]!.mark(id)
    return turn()
  })
  await Promise.all(trackers.map(tracker => tracker.close({ timeoutMs: 600_000 })))
}
