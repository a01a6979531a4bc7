/** An hour of a tracker, on a clock that the test moves. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Queryable } from '../../../src/database/connection.ts'
import { UsageTracker } from '../../../src/mark/tracker.ts'
import { VirtualTime } from '../../support/virtual-time.ts'

const IDS = 1_000_000
/** Long periods, so that an hour has few of them: all ids are stored anew in each. */
const PERIOD_MS = 300_000
const HOUR_MS = 3_600_000

/** So much of the ids is replaced by new ones in each period: after an hour all ids have changed six times. */
const REPLACED = 0.5

const STEP_MS = 1_000
const MARKS_IN_STEP = Math.floor(IDS / (PERIOD_MS / STEP_MS))

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

const silent = { debug() {}, info() {}, warn() {}, error() {} }

test('the memory of a tracker stays flat while it marks a changing million workspaces for an hour', async t => {
  using time = new VirtualTime()
  const server = storing(time)
  const tracker = new UsageTracker(server, { source: 'ssh', logger: silent })
  const used: number[] = []
  for (const _ of everyPeriod(time)) {
    used.push(await markAll(tracker, time))
  }
  const { pending, dropped, marked } = tracker.stats()
  t.diagnostic(
    `${marked} marks, ${server.stored} stored, ${dropped} dropped; MB at the end of each period: ${used.join(', ')}`,
  )
  assert.deepEqual({ pending, dropped }, { pending: 0, dropped: 0 })
  assert.ok(used.at(-1)! <= 1.2 * Math.max(used[0]!, used[1]!))
})

test('the memory of a tracker is bounded by maxPending while the database is out of reach for an hour', async t => {
  using time = new VirtualTime()
  const tracker = new UsageTracker(
    { query: () => Promise.reject(Object.assign(new Error('no route'), { code: 'EHOSTUNREACH' })) },
    { source: 'ssh', logger: silent, maxPending: IDS / 2 },
  )
  const used: number[] = []
  for (const _ of everyPeriod(time)) {
    used.push(await markAll(tracker, time))
  }
  const { pending, dropped, marked } = tracker.stats()
  t.diagnostic(
    `${marked} marks, ${pending} kept, ${dropped} dropped; MB at the end of each period: ${used.join(', ')}`,
  )
  assert.ok(dropped > 0)
  assert.ok(used.at(-1)! <= 1.2 * used[0]!)
})

/** The numbers of the ids that are in use. The oldest are replaced. */
let firstId = 0

function* everyPeriod(time: VirtualTime): Generator<void> {
  firstId = 0
  while (time.now < HOUR_MS) {
    yield
    firstId += IDS * REPLACED
  }
}

/**
 * Marks all ids that are in use, in one period. Each mark has a string of its own, as one from a request has.
 *
 * @returns The memory in use shortly before the period's end, when the tracker remembers most.
 */
async function markAll(tracker: UsageTracker, time: VirtualTime): Promise<number> {
  let used = 0
  const steps = PERIOD_MS / STEP_MS
  for (let step = 0; step < steps; step++) {
    for (let mark = 0; mark < MARKS_IN_STEP; mark++) tracker.mark(idOf(firstId + step * MARKS_IN_STEP + mark))
    if (step === steps - 1) used = usedMegabytes()
    await time.pass(STEP_MS)
  }
  return used
}

/** An id of a number. Its digits are spread, because those of real ids are random. */
function idOf(number: number): string {
  const low = Math.imul(number, 0x9e3779b1) >>> 0
  const hex = `${number.toString(16).padStart(24, '0')}${low.toString(16).padStart(8, '0')}`
  const id = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`
  return Buffer.from(id, 'latin1').toString('latin1')
}

/** A server that stores every batch at once. */
function storing(time: VirtualTime): Queryable & { stored: number } {
  const server = {
    stored: 0,
    query: async (_text: string, values: unknown[] = []) => {
      server.stored += (values[0] as string[]).length
      const end = (Math.floor(time.now / PERIOD_MS) + 1) * PERIOD_MS
      return { rows: [{ remaining_ms: String(end - time.now), period: String(end) }], rowCount: 1 }
    },
  }
  return server as unknown as Queryable & { stored: number }
}

function usedMegabytes(): number {
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return Math.round((heapUsed + external) / 1e6)
}
