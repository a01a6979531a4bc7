import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { DEFAULT_PERIOD_SECONDS, setUsagePeriod } from '../../src/schema/period.ts'
import { type Measurement, median, ms, timed, turn } from '../measurement.ts'

const HOT = 5_000
const CALLERS = 64
const PERIOD_MS = 2_000
const ROUNDS = 3

/**
 * Measures the slowest mark at the end of a period, when all hot ids must be stored again, beside an INSERT per mark.
 */
export async function measurePeriodEnd(pool: pg.Pool): Promise<Measurement> {
  await setUsagePeriod(pool, PERIOD_MS / 1_000)
  const ids = Array.from({ length: HOT }, () => randomUUID())
  const slowest = { tracker: [] as number[], inserts: [] as number[] }
  await using tracker = new UsageTracker(pool, { source: 'bench' })
  for (let round = 0; round < ROUNDS; round++) {
    slowest.tracker.push(
      await slowestAcrossPeriodEnd(ids, id => {
        tracker.mark(id)
        return tracker.drain()
      }),
    )
    slowest.inserts.push(
      await slowestAcrossPeriodEnd(ids, id =>
        pool.query('INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING', [id]),
      ),
    )
  }
  await setUsagePeriod(pool, DEFAULT_PERIOD_SECONDS)
  const worst = Math.max(...slowest.tracker)
  return {
    measure: `slowest mark to be stored across the end of a period, ${HOT} hot ids, ${CALLERS} callers`,
    result: `${ms(median(slowest.tracker))}, at worst ${ms(worst)}`,
    comparison: `${ms(median(slowest.inserts))}, at worst ${ms(Math.max(...slowest.inserts))} for an INSERT each`,
    target: 'below 250 ms',
    reached: worst < 250,
  }
}

async function slowestAcrossPeriodEnd(
  ids: readonly string[],
  store: (id: string) => Promise<unknown>,
): Promise<number> {
  // Start in the middle of a period, and end in the middle of the next one.
  await delay(PERIOD_MS * 1.5 - (Date.now() % PERIOD_MS))
  const end = performance.now() + PERIOD_MS
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
