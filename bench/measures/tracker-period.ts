import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { DEFAULT_PERIOD_SECONDS, setUsagePeriod } from '../../src/schema/period.ts'
import { alternate, atMost, type Measure, type Result, row, type Stage } from '../measure.ts'
import { withPool } from '../support/database.ts'
import { timed, turn } from '../support/timing.ts'

const HOT = 5_000
const CALLERS = 64
const PERIOD_MS = 2_000
const ROUNDS = 3

/** The slowest mark to be stored at the end of a period, when all hot ids must be stored again. */
export const trackerPeriod: Measure = {
  name: 'tracker-period',
  title: 'Tracker: the slowest mark across the end of a period, 5,000 hot ids',
  run: stage =>
    withPool(stage.million, async pool => {
      await setUsagePeriod(pool, PERIOD_MS / 1_000)
      try {
        return await measure(stage, pool)
      } finally {
        await setUsagePeriod(pool, DEFAULT_PERIOD_SECONDS)
        await pool.query('TRUNCATE ONLY pending_usage')
      }
    }),
}

async function measure({ scaled, progress }: Stage, pool: pg.Pool): Promise<Result> {
  const ids = Array.from({ length: HOT }, () => randomUUID())
  const rounds = scaled(ROUNDS, 1)
  progress(`${rounds} rounds`)
  await using tracker = new UsageTracker(pool, { source: 'bench' })
  const insert = 'INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING'
  const slowest = await alternate(rounds, {
    tracker: () =>
      slowestAcrossPeriodEnd(ids, id => {
        tracker.mark(id)
        return tracker.drain()
      }),
    inserts: () => slowestAcrossPeriodEnd(ids, id => pool.query(insert, [id])),
  })
  return {
    rows: [
      row(`tracker, ${CALLERS} callers that wait for each mark`, 'ms', slowest.tracker),
      row(`an INSERT each over ${pool.options.max} connections`, 'ms', slowest.inserts),
    ],
    limits: 'All hot ids are new at once when a period ends. They go out in a few statements.',
    targets: [atMost('the slowest of all rounds', slowest.tracker.max, 250, 'ms')],
  }
}

async function slowestAcrossPeriodEnd(
  ids: readonly string[],
  store: (id: string) => Promise<unknown>,
): Promise<number> {
  // Start three quarters into a period, and end a quarter into the next one.
  await delay((PERIOD_MS * 1.75 - (Date.now() % PERIOD_MS)) % PERIOD_MS)
  const end = performance.now() + PERIOD_MS / 2
  let slowest = 0
  const caller = async () => {
    while (performance.now() < end) {
      const id = ids[Math.floor(Math.random() * ids.length)]!
      slowest = Math.max(slowest, await timed(() => store(id)))
      await turn()
    }
  }
  await Promise.all(Array.from({ length: CALLERS }, caller))
  return slowest
}
