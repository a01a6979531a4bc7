import { randomUUID } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type pg from 'pg'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { type Measurement, medians, ms, turn } from '../measurement.ts'

const IDS = 1_000_000
const IDS_ONE_BY_ONE = 100_000
const MARKS_PER_TURN = 1_000
const ROUNDS = 3

/** Measures how late the event loop is while a tracker stores ids, beside an INSERT per id. */
export async function measureLoopDelay(pool: pg.Pool): Promise<Measurement> {
  const ids = Array.from({ length: IDS }, () => randomUUID())
  const delays = await medians(ROUNDS, {
    tracker: () => delayP99(pool, () => markAll(pool, ids)),
    inserts: () => delayP99(pool, () => insertAll(pool, ids.slice(0, IDS_ONE_BY_ONE))),
  })
  return {
    measure: `event-loop delay while ${IDS} ids are stored`,
    result: `p99 ${ms(delays.tracker)}`,
    comparison: `p99 ${ms(delays.inserts)} with single-row INSERTs, ${MARKS_PER_TURN} at a time`,
    target: 'p99 below 20 ms',
    reached: delays.tracker < 20,
  }
}

async function markAll(pool: pg.Pool, ids: readonly string[]): Promise<void> {
  await using tracker = new UsageTracker(pool, { source: 'bench' })
  for (const [place, id] of ids.entries()) {
    tracker.mark(id)
    if (place % MARKS_PER_TURN === 0) await turn()
  }
  await tracker.drain()
}

async function insertAll(pool: pg.Pool, ids: readonly string[]): Promise<void> {
  for (let place = 0; place < ids.length; place += MARKS_PER_TURN) {
    const some = ids.slice(place, place + MARKS_PER_TURN)
    await Promise.all(
      some.map(id =>
        pool.query('INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING', [id]),
      ),
    )
  }
}

async function delayP99(pool: pg.Pool, work: () => Promise<void>): Promise<number> {
  await pool.query('TRUNCATE pending_usage')
  const resolution = 1
  const histogram = monitorEventLoopDelay({ resolution })
  histogram.enable()
  await work()
  histogram.disable()
  // The histogram holds the time between two samples. That includes the wanted interval.
  return histogram.percentile(99) / 1e6 - resolution
}
