import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { alternate, atMost, type Measure, type Result, row, type Stage } from '../measure.ts'

const IDS = 1_000_000
const ROUNDS = 3
const PROGRAM = path.join(import.meta.dirname, '../load/memory.ts')

/** The memory of ids that wait for a database that never answers, strings included, beside a `Set` of ids. */
export const trackerMemory: Measure = {
  name: 'tracker-memory',
  title: 'Tracker: memory of a million ids that wait',
  async run({ scaled, progress }: Stage): Promise<Result> {
    const rounds = scaled(ROUNDS, 1)
    progress(`${rounds} rounds`)
    const memoryOf = async (kind: 'tracker' | 'set') => {
      const args = ['--expose-gc', PROGRAM, kind, String(scaled(IDS))]
      return Number((await promisify(execFile)(process.execPath, args)).stdout)
    }
    const memory = await alternate(rounds, { tracker: () => memoryOf('tracker'), set: () => memoryOf('set') })
    return {
      rows: [row('a Set of the same strings', 'MB', memory.set), row('tracker', 'MB', memory.tracker)],
      limits:
        'The strings of the ids are the larger part. A tracker holds at most a million ids by default, and then drops ' +
        'new ones.',
      targets: [atMost('a tracker, to the Set', memory.tracker.median / memory.set.median, 2, 'times')],
    }
  },
}
