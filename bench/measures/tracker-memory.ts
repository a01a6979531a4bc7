import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { alternate, atMost, type Measure, type Result, row, type Stage } from '../measure.ts'
import { turn } from '../support/timing.ts'

const IDS = 1_000_000
const ROUNDS = 3
const FREED_WITHIN_MS = 15_000

/** The memory of ids that wait for a database that never answers, strings included, beside a `Set` of ids. */
export const trackerMemory: Measure = {
  name: 'tracker-memory',
  title: 'Tracker: memory of a million ids that wait',
  async run({ scaled, progress }: Stage): Promise<Result> {
    const count = scaled(IDS)
    setFlagsFromString('--expose-gc')
    const collectGarbage: () => void = runInNewContext('gc')
    const used = () => {
      collectGarbage()
      const { heapUsed, external } = process.memoryUsage()
      return (heapUsed + external) / 1e6
    }
    const rounds = scaled(ROUNDS, 1)
    progress(`${rounds} rounds`)
    const memory = await alternate(rounds, {
      async tracker() {
        const before = used()
        const { promise: answer, reject } = Promise.withResolvers<never>()
        const tracker = new UsageTracker({ query: () => answer }, { logger: silent })
        for (const id of newIds(count)) tracker.mark(id)
        await turn()
        const after = used()
        const closed = tracker.close({ timeoutMs: 0 })
        reject(new Error('the end of a round'))
        await closed
        // A pause before the next attempt may hold the tracker for a moment. The next round begins without it.
        const deadline = performance.now() + FREED_WITHIN_MS
        while (used() > before + 1 && performance.now() < deadline) await delay(100)
        return after - before
      },
      async plain() {
        const before = used()
        const ids = new Set(newIds(count))
        const after = used()
        ids.clear()
        return after - before
      },
    })
    return {
      rows: [row('a Set of the same strings', 'MB', memory.plain), row('tracker', 'MB', memory.tracker)],
      limits:
        'The strings of the ids are the larger part. A tracker holds at most a million ids by default, and then drops ' +
        'new ones.',
      targets: [atMost('a tracker, to the Set', memory.tracker.median / memory.plain.median, 2, 'times')],
    }
  },
}

const silent = { debug() {}, info() {}, warn() {}, error() {} }

function* newIds(count: number): Generator<string> {
  for (let made = 0; made < count; made++) {
    const hex = randomBytes(16).toString('hex')
    const id = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
    yield Buffer.from(id, 'latin1').toString('latin1')
  }
}
