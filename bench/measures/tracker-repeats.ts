import { randomUUID } from 'node:crypto'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { alternate, atLeast, type Measure, type Result, row, type Stage } from '../measure.ts'
import { withPool } from '../support/database.ts'
import { turn } from '../support/timing.ts'

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

/** Repeats hot ids in random order, beside a bare `Set`: with the strings of the first mark, and with new ones. */
export const trackerRepeats: Measure = {
  name: 'tracker-repeats',
  title: 'Tracker: repeats of 5,000 hot ids, beside Set.add',
  run: stage => withPool(stage.million, pool => measure(stage, new UsageTracker(pool, { source: 'bench' }))),
}

async function measure({ scaled, progress }: Stage, tracker: UsageTracker): Promise<Result> {
  const ids = Array.from({ length: HOT }, () => flat(randomUUID()))
  const order = Array.from({ length: scaled(SAME) }, () => ids[Math.floor(Math.random() * HOT)]!)
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
  // There are two functions, so that each call site sees only one kind of tracker.
  const markTracker = (ids: readonly string[]) => {
    for (let i = 0; i < ids.length; i++) tracker.mark(ids[i]!)
  }
  const markPlain = (ids: readonly string[]) => {
    for (let i = 0; i < ids.length; i++) plain.mark(ids[i]!)
  }
  const rounds = scaled(ROUNDS, 1)
  progress(`${rounds} rounds of the same strings, and of fresh ones`)
  const same = await alternate(
    rounds,
    { tracker: () => rate(order, markTracker), plain: () => rate(order, markPlain) },
    { warmUps: 2 },
  )
  const some = order.slice(0, scaled(FRESH))
  const fresh = await alternate(
    rounds,
    { tracker: () => rate(some.map(flat), markTracker), plain: () => rate(some.map(flat), markPlain) },
    { warmUps: 2 },
  )
  await tracker.close()
  return {
    rows: [
      { ...row('Set.add, the same strings', 'repeats/s', same.plain), group: 'same' },
      { ...row('mark(), the same strings', 'repeats/s', same.tracker), group: 'same' },
      { ...row('Set.add, fresh strings', 'repeats/s', fresh.plain), group: 'fresh' },
      { ...row('mark(), fresh strings', 'repeats/s', fresh.tracker), group: 'fresh' },
    ],
    limits:
      'A repeat looks into one Set, as Set.add does, and nothing else. For a fresh string V8 computes its hash first, ' +
      'and reads the whole string, which both sides pay.',
    targets: [
      atLeast('the same strings, to Set.add', same.tracker.median / same.plain.median, 1, 'times'),
      atLeast('fresh strings, to Set.add', fresh.tracker.median / fresh.plain.median, 1, 'times'),
    ],
  }
}

/** A new string with the same content, in the form that a driver or parser makes. */
function flat(id: string): string {
  return Buffer.from(id, 'latin1').toString('latin1')
}
