import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { collectLog } from '../support/log-lines.ts'
import { ModelServer } from '../support/model-server.ts'
import { VirtualTime } from '../support/virtual-time.ts'

/*
 * The clocks of a service go wrong, and the database's clock does not. A repeat after that must reach the database if
 * its period has ended, whatever the tracker believes. test/mark/tracker-model.test.ts does the same at random.
 */

const PERIOD_MS = 30_000
const ID = '11111111-aaaa-4aaa-8aaa-aaaaaaaaaaaa'

/** What happens between two marks, and whether the period has ended then. */
const EVENTS: Record<string, { event: (time: VirtualTime) => unknown; ended: boolean }> = {
  'the laptop sleeps for an hour, and the steady clock stands still': {
    event: time => time.sleep(3_600_000),
    ended: true,
  },
  'the laptop sleeps for an hour, and its wall clock wakes an hour late': {
    event: async time => {
      time.sleep(3_600_000)
      time.setWallClock(-3_600_000)
      await time.pass(PERIOD_MS)
    },
    ended: true,
  },
  'the wall clock is set back by a day, and the period ends': {
    event: async time => {
      time.setWallClock(-86_400_000)
      await time.pass(PERIOD_MS)
    },
    ended: true,
  },
  'the wall clock is set forwards by a day, within the period': {
    event: time => time.setWallClock(86_400_000),
    ended: false,
  },
  'the wall clock is set forwards and back, and the period ends': {
    event: async time => {
      time.setWallClock(86_400_000)
      time.setWallClock(-86_400_000)
      await time.pass(PERIOD_MS)
    },
    ended: true,
  },
  'the event loop is blocked over the end of the period': {
    event: time => time.block(PERIOD_MS),
    ended: true,
  },
}

for (const [name, { event, ended }] of Object.entries(EVENTS)) {
  test(`a repeat of a mark counts for its own period after this: ${name}`, async t => {
    await repeatCounts(t, event, ended)
  })
}

async function repeatCounts(
  t: TestContext,
  event: (time: VirtualTime) => unknown,
  ended: boolean,
): Promise<void> {
  using time = new VirtualTime()
  const nobody = { begun: () => 0, sent() {}, answered() {}, failed() {}, connectionBroke() {} }
  const server = new ModelServer(time, PERIOD_MS, nobody)
  const tracker = new UsageTracker(server, { logger: collectLog().logger })
  tracker.mark(ID)
  await time.pass(1_000)
  const before = server.periodEnds.get(ID)!
  await event(time)
  const markedAt = time.now
  tracker.mark(ID)
  // Longer than the tracker takes to look at its clocks.
  await time.pass(1_000)
  const counted = server.periodEnds.get(ID)!
  t.diagnostic(`marked 2, survived 2, lost 0, recovered in less than 1 s of ${time.now / 1_000} s`)
  assert.ok(counted > markedAt, `marked at ${markedAt} ms, counts until ${counted} ms`)
  assert.equal(counted > before, ended)
  const closing = tracker.close()
  await time.pass(1_000)
  assert.deepEqual(await closing, { left: 0 })
}
