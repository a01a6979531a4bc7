import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { type Measurement, medians, perSecond, timed, turn } from '../measurement.ts'
import { startRedis } from '../redis.ts'

const CALLERS = 10_000
const IDS = 1_000_000
/** Fewer, because they are slow. They are enough to tell a rate. */
const IDS_ONE_BY_ONE = 100_000
const ROUNDS = 3

/** Stores distinct ids from concurrent callers, beside other ways that store each id by itself. */
export async function measureDistinct(pool: pg.Pool): Promise<Measurement> {
  const ids = Array.from({ length: IDS }, () => randomUUID())
  const redis = await startRedis()
  const cleared = async (count: number, store: () => Promise<unknown>) => {
    await pool.query('TRUNCATE pending_usage')
    await redis?.client.flushDb()
    return (count / (await timed(store))) * 1_000
  }
  const rates = await medians(ROUNDS, {
    tracker: () => cleared(IDS, () => throughTrackers(pool, ids, 1)),
    threeTrackers: () => cleared(IDS, () => throughTrackers(pool, ids, 3)),
    inserts: () =>
      cleared(IDS_ONE_BY_ONE, () =>
        fromCallers(ids.slice(0, IDS_ONE_BY_ONE), id =>
          pool.query('INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING', [id]),
        ),
      ),
    redis: async () =>
      redis ? cleared(IDS, () => fromCallers(ids, id => redis.client.sAdd('pending', id))) : 0,
  })
  await redis?.stop()
  return {
    measure: `${IDS} distinct ids from ${CALLERS} callers, stored`,
    result: `${perSecond(rates.tracker)}; three trackers at once ${perSecond(rates.threeTrackers)}`,
    comparison:
      `${perSecond(rates.inserts)} for single-row INSERTs over a pool of ${pool.options.max} ` +
      `(${(rates.tracker / rates.inserts).toFixed(1)} times); ` +
      (redis
        ? `${perSecond(rates.redis)} for Redis SADD, pipelined`
        : 'Redis left out: no redis-server on PATH'),
    target: redis ? '4 times the INSERTs; SADD' : '4 times the INSERTs',
    reached: rates.tracker >= 4 * rates.inserts && rates.tracker > rates.redis,
  }
}

/** Each tracker has one statement under way, so several trackers show what several statements would reach. */
async function throughTrackers(pool: pg.Pool, ids: readonly string[], count: number): Promise<void> {
  const trackers = Array.from({ length: count }, () => new UsageTracker(pool, { source: 'bench' }))
  let next = 0
  await fromCallers(ids, id => {
    trackers[next++ % count]!.mark(id)
    return turn()
  })
  await Promise.all(trackers.map(tracker => tracker.close({ timeoutMs: 600_000 })))
}

/** Each caller stores its share of the ids, one after the other. */
async function fromCallers(ids: readonly string[], store: (id: string) => Promise<unknown>): Promise<void> {
  const share = Math.ceil(ids.length / CALLERS)
  const caller = async (_: unknown, number: number) => {
    for (const id of ids.slice(number * share, (number + 1) * share)) await store(id)
  }
  await Promise.all(Array.from({ length: CALLERS }, caller))
}
