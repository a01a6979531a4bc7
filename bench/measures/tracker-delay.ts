import { randomUUID } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type pg from 'pg'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { alternate, atMost, type Measure, type Result, row, type Stage } from '../measure.ts'
import { inSlices } from '../support/callers.ts'
import { withPool } from '../support/database.ts'
import { turn } from '../support/timing.ts'

const IDS = 200_000
const IDS_ONE_BY_ONE = 20_000
const MARKS_PER_TURN = 1_000
const ROUNDS = 3

/** How late the event loop of a service is while its tracker stores ids, beside an INSERT per id. */
export const trackerDelay: Measure = {
  name: 'tracker-delay',
  title: 'Tracker: delay of the event loop while ids are stored, p99',
  run: stage =>
    withPool(stage.million, async pool => {
      try {
        return await measure(stage, pool)
      } finally {
        await pool.query('TRUNCATE ONLY pending_usage')
      }
    }),
}

async function measure({ scaled, progress }: Stage, pool: pg.Pool): Promise<Result> {
  const ids = Array.from({ length: scaled(IDS) }, () => randomUUID())
  const rounds = scaled(ROUNDS, 1)
  progress(`${rounds} rounds of ${ids.length.toLocaleString('en')} ids`)
  const delays = await alternate(rounds, {
    tracker: () => delayP99(pool, () => markAll(pool, ids)),
    inserts: () => delayP99(pool, () => insertAll(pool, ids.slice(0, scaled(IDS_ONE_BY_ONE)))),
  })
  return {
    rows: [
      row('tracker', 'ms', delays.tracker),
      row(`an INSERT each, ${MARKS_PER_TURN.toLocaleString('en')} at a time`, 'ms', delays.inserts),
    ],
    limits:
      'A tracker hands one or two statements to the driver at a time, and the driver writes its ids as one text. Each INSERT ' +
      'has an answer of its own, and the driver reads them all.',
    targets: [atMost('p99 of the delay', delays.tracker.median, 20, 'ms')],
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
  const insert = 'INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING'
  await inSlices(MARKS_PER_TURN, ids, some => Promise.all(some.map(id => pool.query(insert, [id]))))
}

async function delayP99(pool: pg.Pool, work: () => Promise<void>): Promise<number> {
  await pool.query('TRUNCATE ONLY pending_usage')
  const resolution = 1
  const histogram = monitorEventLoopDelay({ resolution })
  histogram.enable()
  await work()
  histogram.disable()
  // The histogram holds the time between two samples. That includes the wanted interval.
  return histogram.percentile(99) / 1e6 - resolution
}
