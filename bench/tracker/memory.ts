import { randomBytes } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { type Measurement, medians, turn } from '../measurement.ts'

const IDS = 1_000_000
const ROUNDS = 3

/** Measures the memory of ids that wait for a database that never answers, strings included, beside a `Set` of ids. */
export async function measureMemory(): Promise<Measurement> {
  setFlagsFromString('--expose-gc')
  const collectGarbage: () => void = runInNewContext('gc')
  const used = () => {
    collectGarbage()
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  }
  const bytes = await medians(ROUNDS, {
    tracker: async () => {
      const before = used()
      const tracker = new UsageTracker({ query: () => new Promise(() => {}) }, { logger: silent })
      for (const id of newIds()) tracker.mark(id)
      await turn()
      const after = used()
      await tracker.close({ timeoutMs: 0 })
      return after - before
    },
    plain: () => {
      const before = used()
      const ids = new Set(newIds())
      const after = used()
      ids.clear()
      return after - before
    },
  })
  const ratio = bytes.tracker / bytes.plain
  return {
    measure: `memory of ${IDS} pending ids`,
    result: `${megabytes(bytes.tracker)}`,
    comparison: `${megabytes(bytes.plain)} for a Set of the same strings (${ratio.toFixed(2)} times)`,
    target: 'at most twice',
    reached: ratio <= 2,
  }
}

const silent = { debug() {}, info() {}, warn() {}, error() {} }

function* newIds(): Generator<string> {
  for (let count = 0; count < IDS; count++) {
    const hex = randomBytes(16).toString('hex')
    const id = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
    yield Buffer.from(id, 'latin1').toString('latin1')
  }
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`
}
