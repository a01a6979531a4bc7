/*
 * Prints the memory, in MB, of ids that wait in a tracker or lie in a `Set`: `node --expose-gc memory.ts tracker 1000000`.
 * It is a process of its own, so that nothing of an earlier run is freed meanwhile.
 */

import { randomUUID } from 'node:crypto'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { turn } from '../support/timing.ts'

const [kind, count] = process.argv.slice(2)
const silent = { debug() {}, info() {}, warn() {}, error() {} }

const before = used()
const held = kind === 'tracker' ? await trackerOf(newIds(Number(count))) : new Set(newIds(Number(count)))
console.log(used() - before)
// The database of the tracker never answers, so it would keep this process alive. This also keeps `held` until here.
process.exit(held ? 0 : 1)

async function trackerOf(ids: Iterable<string>): Promise<UsageTracker> {
  const tracker = new UsageTracker({ query: () => new Promise(() => {}) }, { logger: silent })
  for (const id of ids) tracker.mark(id)
  await turn()
  return tracker
}

/** The strings have the form that a driver or a parser makes. */
function* newIds(count: number): Generator<string> {
  for (let made = 0; made < count; made++) {
    yield Buffer.from(randomUUID(), 'latin1').toString('latin1')
  }
}

function used(): number {
  globalThis.gc!()
  const { heapUsed, external } = process.memoryUsage()
  return (heapUsed + external) / 1e6
}
