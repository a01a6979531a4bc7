import type pg from 'pg'
import { drain } from '../../src/flush/drain.ts'
import { DEFAULT_BATCH_SIZE } from '../../src/flush/flush.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { inTurn, type Measure, type Result, row, type Stage, type Summary, summary } from '../measure.ts'
import { fromCallers, inSlices } from '../support/callers.ts'
import { closePeriods } from '../support/close-periods.ts'
import { backendCpuSeconds, cpuSeconds } from '../support/costs.ts'
import { withPool } from '../support/database.ts'
import { RandomIds } from '../support/ids.ts'
import { type Redis, startRedis } from '../support/redis.ts'
import { timed, turn } from '../support/timing.ts'

const IDS = 20_000
const CALLERS = 1_000
const ROUNDS = 5

/** What it takes to store marks, and to bring them into `workspaces`. */
interface Costs {
  store: number
  flush: number
  whole: number
  cpu: number
}

/** Redis collects the ids in a set, and a job writes them into `workspaces` every minute. */
export const redisSet: Measure = {
  name: 'redis',
  title: 'Marks of 20,000 workspaces, stored and flushed, beside a set in Redis',
  needs: 'redis-server',
  run: stage =>
    withPool(stage.million, async pool => {
      const redis = (await startRedis())!
      try {
        return await measure(stage, pool, redis)
      } finally {
        await redis.stop()
        await pool.query('TRUNCATE ONLY pending_usage')
      }
    }),
}

async function measure(
  { workspaces, scaled, progress }: Stage,
  pool: pg.Pool,
  redis: Redis,
): Promise<Result> {
  const random = new RandomIds(pool, workspaces)
  const rounds = scaled(ROUNDS, 1)
  const warmUps = scaled(1, 0)
  progress(`${rounds} rounds`)
  const costs: Record<'ours' | 'redis', Costs[]> = { ours: [], redis: [] }
  // The tables of the flush have their pages in the cache then, on both sides.
  await pool.query('TRUNCATE ONLY pending_usage; CHECKPOINT')
  await inTurn(rounds + warmUps, ['ours', 'redis'] as const, async way => {
    const ids = await random.take(scaled(IDS, 20))
    costs[way].push(way === 'ours' ? await throughTracker(pool, ids) : await throughRedis(pool, redis, ids))
  })
  const of = (way: 'ours' | 'redis', cost: keyof Costs): Summary =>
    summary(costs[way].slice(warmUps).map(one => one[cost]))
  const pair = (label: string, unit: string, cost: keyof Costs) => [
    { ...row(`${label}: tracker, flushes`, unit, of('ours', cost)), group: cost },
    { ...row(`${label}: SADD, SMEMBERS and UPDATEs`, unit, of('redis', cost)), group: cost },
  ]
  return {
    rows: [
      ...pair('stored', 'ms', 'store'),
      ...pair('flushed', 'ms', 'flush'),
      ...pair('both', 'ms', 'whole'),
      ...pair('CPU of the servers', 'µs a mark', 'cpu'),
    ],
    limits:
      'Both flushes update the same number of rows in batches of the same size, ours without sources. The UPDATEs are ' +
      'most of it, and the same on both sides. A set in Redis has no periods, so it has the last use to the minute of its ' +
      'flush, and it needs no table in PostgreSQL. It is a second server to run, back up and watch, and one that no ' +
      'transaction spans: after a crash between RENAME and UNLINK somebody must look for the renamed set.',
    targets: [],
  }
}

async function throughTracker(pool: pg.Pool, ids: readonly string[]): Promise<Costs> {
  const cpu = await backendCpuSeconds(pool)
  const store = await timed(async () => {
    await using tracker = new UsageTracker(pool, { source: 'bench' })
    await fromCallers(CALLERS, ids, id => {
      tracker.mark(id)
      return turn()
    })
    await tracker.drain()
  })
  const between = await backendCpuSeconds(pool)
  await closePeriods(pool)
  const again = await backendCpuSeconds(pool)
  const flush = await timed(() => drain(pool, { sources: false }))
  const used = between - cpu + (await backendCpuSeconds(pool)) - again
  return { store, flush, whole: store + flush, cpu: (used / ids.length) * 1e6 }
}

/** The client sends all SADD of one turn at once. The set is renamed first, so that later marks go to a new one. */
async function throughRedis(pool: pg.Pool, redis: Redis, ids: readonly string[]): Promise<Costs> {
  const { client, pid } = redis
  const cpu = cpuSeconds(pid) + (await backendCpuSeconds(pool))
  const store = await timed(() => fromCallers(CALLERS, ids, id => client.sAdd('pending', id)))
  const flush = await timed(async () => {
    await client.rename('pending', 'flushing')
    await inSlices(DEFAULT_BATCH_SIZE, await client.sMembers('flushing'), some =>
      pool.query('UPDATE workspaces SET last_used_at = now() WHERE id = ANY ($1)', [some]),
    )
    await client.unlink('flushing')
  })
  const used = cpuSeconds(pid) + (await backendCpuSeconds(pool)) - cpu
  return { store, flush, whole: store + flush, cpu: (used / ids.length) * 1e6 }
}
