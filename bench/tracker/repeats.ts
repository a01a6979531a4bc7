import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { type Measurement, medians, perSecond, turn } from '../measurement.ts'

const HOT = 5_000
const SAME = 1_000_000
const FRESH = 200_000
const ROUNDS = 25

/** The simplest way to collect ids in memory, as a tracker does that writes them out every minute. */
class PlainTracker {
  readonly #ids = new Set<string>()

  mark(id: string): void {
    this.#ids.add(id)
  }
}

/**
 * Repeats hot ids in random order, beside a bare `Set`: with the same strings as in the first mark, and with new ones.
 */
export async function measureRepeats(pool: pg.Pool): Promise<Measurement[]> {
  const ids = Array.from({ length: HOT }, () => flat(randomUUID()))
  const order = Array.from({ length: SAME }, () => ids[Math.floor(Math.random() * HOT)]!)
  await using tracker = new UsageTracker(pool, { source: 'bench' })
  const plain = new PlainTracker()
  for (const id of ids) {
    tracker.mark(id)
    plain.mark(id)
  }

  const rate = async (ids: readonly string[], mark: (ids: readonly string[]) => void) => {
    await tracker.drain()
    await turn()
    const started = performance.now()
    mark(ids)
    return (ids.length / (performance.now() - started)) * 1_000
  }
  const same = await medians(ROUNDS, {
    tracker: () => rate(order, markTracker),
    plain: () => rate(order, markPlain),
  })
  const fresh = await medians(ROUNDS, {
    tracker: () => rate(order.slice(0, FRESH).map(flat), markTracker),
    plain: () => rate(order.slice(0, FRESH).map(flat), markPlain),
  })
  return [row('the same strings', same, 10e6), row('fresh strings', fresh, 6e6)]

  // There are two functions, so that each call site sees only one kind of tracker.
  function markTracker(ids: readonly string[]): void {
    for (let i = 0; i < ids.length; i++) tracker.mark(ids[i]!)
  }
  function markPlain(ids: readonly string[]): void {
    for (let i = 0; i < ids.length; i++) plain.mark(ids[i]!)
  }
}

function row(strings: string, rates: { tracker: number; plain: number }, least: number): Measurement {
  return {
    measure: `repeats of ${HOT} hot ids, ${strings}`,
    result: `${perSecond(rates.tracker)} (${nanoseconds(rates.tracker)} each)`,
    comparison: `${perSecond(rates.plain)} (${nanoseconds(rates.plain)}) for Set.add: ${(rates.tracker / rates.plain).toFixed(2)} times that`,
    // Two runs of the same code differ by up to 5 %.
    target: `${perSecond(least)}; Set.add, give or take 5 %`,
    reached: rates.tracker >= least && rates.tracker >= rates.plain * 0.95,
  }
}

/** A new string with the same content, in the form that a driver or parser makes. */
function flat(id: string): string {
  return Buffer.from(id, 'latin1').toString('latin1')
}

function nanoseconds(perSecond: number): string {
  return `${(1e9 / perSecond).toFixed(1)} ns`
}
