import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MarksNotStoredError } from '../../src/errors.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { collectLog } from '../support/log-lines.ts'
import { ModelServer, type Trouble } from '../support/model-server.ts'
import { ModelTracker } from '../support/model-tracker.ts'
import { VirtualTime } from '../support/virtual-time.ts'

/*
 * Compares the tracker with a model, in virtual time: marks, ends of periods, failures, crashes, failovers, drains and
 * closes in random order.
 */

/** The most ids that the tracker sends with one statement. */
const MAX_BATCH = 5_000
const MANY = Array.from(
  { length: 27_000 },
  (_, n) => `${n.toString(16).padStart(8, '0')}-aaaa-4aaa-8aaa-aaaaaaaaaaaa`,
)
const IDS = MANY.slice(0, 8)
/** Longer than the longest pause between attempts, one statement and a drain of all ids together. */
const LONG_ENOUGH = 40_000

/** One event of a run. */
type Step = (run: Run) => Promise<unknown> | unknown

const id = fc.constantFrom(...IDS)
const often: fc.Arbitrary<Step>[] = [
  said(
    'mark',
    fc.tuple(id, fc.boolean()),
    ([id, upper]) =>
      run =>
        run.mark(upper ? id.toUpperCase() : id),
  ),
  said('pass', fc.nat(60), ms => run => run.time.pass(ms)),
]
const sometimes: fc.Arbitrary<Step>[] = [
  said('mark many', fc.subarray(IDS), ids => run => ids.map(id => run.mark(id))),
  said('mark 600 times', id, id => run => Array.from({ length: 600 }, () => run.mark(id))),
  said('pass long', fc.constantFrom(100, 200, 300, 400, 600, 1_000, 2_500), ms => run => run.time.pass(ms)),
  said('latency', fc.record({ there: fc.nat(300), back: fc.nat(300) }), latency => run => {
    run.server.latency = latency
  }),
  said('trouble', fc.constantFrom<Trouble>('lost', 'cut', 'refused', undefined), trouble => run => {
    run.server.trouble = trouble
  }),
  said('crash', fc.constant(0), () => run => run.crash()),
  said('fail over', fc.constant(0), () => run => run.failOver()),
  said('drain', fc.constant(0), () => run => run.drain()),
]
const blocks: fc.Arbitrary<Step>[] = [
  said('block', fc.constantFrom(10, 100, 300, 500, 700, 1_000, 2_500), ms => run => run.time.block(ms)),
]
const sleeps: fc.Arbitrary<Step>[] = [
  said('sleep', fc.constantFrom(10, 100, 700, 3_000, 200_000), ms => run => run.time.sleep(ms)),
  said('set the wall clock forwards', fc.nat(100_000), ms => run => run.time.setWallClock(ms)),
]
const wrongClocks: fc.Arbitrary<Step>[] = [
  said(
    'set the wall clock',
    fc.oneof(fc.integer({ min: -1_000, max: 1_000 }), fc.constantFrom(-1e12, -5_000, 5_000, 1e12)),
    ms => run => run.time.setWallClock(ms),
  ),
]

const backlogs: fc.Arbitrary<Step>[] = [
  said(
    'mark thousands',
    fc.tuple(fc.nat(15_000), fc.constantFrom(3_000, 5_000, 12_000)),
    ([from, count]) =>
      run => {
        for (const id of MANY.slice(from, from + count)) run.mark(id)
      },
  ),
]

/** What makes the answers of two statements under way differ. */
const races: fc.Arbitrary<Step>[] = [
  said(
    'second statement',
    fc.record({
      trouble: fc.constantFrom<Trouble>('lost', 'cut', undefined, undefined),
      latency: fc.record({ there: fc.nat(300), back: fc.nat(300) }),
    }),
    second => run => {
      run.server.second = second
    },
  ),
  said('crash, and the answers on the way arrive', fc.constant(0), () => run => run.crash(true)),
  said('fail over', fc.constant(0), () => run => run.failOver()),
  said('drain', fc.constant(0), () => run => run.drain()),
  // Ids that are under way are marked again, perhaps in another period.
  said('mark again', fc.nat(15_000), from => run => {
    for (const id of MANY.slice(from, from + 500)) run.mark(id)
  }),
]

const ending = fc.record({
  trouble: fc.constantFrom<Trouble>(undefined, 'lost'),
  timeoutMs: fc.nat(3_000),
})
const periodMs = fc.constantFrom(100, 700, 3_000, 100_000)

test('the tracker sends the same ids as a model that looks at the clock at every mark', async () => {
  await fc.assert(
    fc.asyncProperty(
      steps([...often, ...often, ...sometimes]),
      periodMs,
      ending,
      async (steps, periodMs, ending) => {
        using run = new Run(periodMs, { exact: true, maxPending: 5 })
        for (const step of steps) await step(run)
        run.assertCounts()
        await run.assertAllStored()
        run.assertCounts()
        await run.assertClose(ending)
      },
    ),
    { numRuns: 1_000 },
  )
})

test('the tracker sends the same ids as a model that looks at the clock at every mark when more ids wait than one statement takes', async () => {
  await fc.assert(
    fc.asyncProperty(
      steps([...often, ...sometimes, ...backlogs, ...backlogs], 20),
      periodMs,
      async (steps, periodMs) => {
        using run = new Run(periodMs, { exact: true, maxPending: 15_000 })
        for (const step of steps) await step(run)
        run.assertCounts()
        await run.assertAllStored()
        run.assertCounts()
      },
    ),
    { numRuns: 60 },
  )
})

test('the tracker loses no mark, whatever blocks the event loop', async () => {
  await assertLosesNothing([...often, ...often, ...sometimes, ...blocks, ...blocks], true)
})

test('the tracker loses no mark if the machine sleeps and its steady clock stands still', async () => {
  await assertLosesNothing([...often, ...often, ...sometimes, ...sleeps, ...sleeps], false)
})

test('the tracker loses no mark if somebody sets the wall clock forwards or backwards', async () => {
  await assertLosesNothing([...often, ...often, ...sometimes, ...wrongClocks, ...wrongClocks], false)
})

test('the tracker loses no mark over two connections, in whatever order answers, failures and crashes come', async () => {
  let most = 0
  await fc.assert(
    fc.asyncProperty(
      steps([...often, ...often, ...often, ...sometimes, ...races, ...races, ...backlogs, ...backlogs], 40),
      periodMs,
      async (steps, periodMs) => {
        using run = new Run(periodMs, { exact: false, maxPending: 30_000, clocksAreRight: false, pool: true })
        for (const step of steps) await step(run)
        await run.assertAllStored()
        run.assertSum()
        most = Math.max(most, run.mostUnderWay)
      },
    ),
    { numRuns: 100 },
  )
  assert.equal(most, 2)
})

test('an answer to a statement that was sent before a failure does not make the tracker take its ids for stored', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(90), fc.nat(90), fc.nat(200), async (takesOver, fails, again) => {
      // The second statement fails meanwhile. The pause after that is not over when ids are marked again.
      const second = { trouble: 'cut', latency: { there: 0, back: 100 + fails } } as const
      await assertOldAnswerIsNotTrusted({ second, takesOver, answeredAt: 300, again: again / 10 })
    }),
    { numRuns: 50 },
  )
})

test('an answer of the server before a failover that comes after one of the new server does not make the tracker take its ids for stored', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 90 }), fc.nat(100), async (takesOver, again) => {
      // The second statement is stored by the new server, and is answered first.
      const second = { trouble: undefined, latency: { there: 100, back: 100 } }
      await assertOldAnswerIsNotTrusted({ second, takesOver, answeredAt: 310, again })
    }),
    { numRuns: 20 },
  )
})

test('an answer that comes after the broken connections of a crash does not make the tracker take its ids for stored', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.boolean(),
      fc.integer({ min: 1, max: 90 }),
      fc.nat(100),
      async (pool, crashes, again) => {
        using run = new Run(100_000, { exact: false, maxPending: 15_000, clocksAreRight: false, pool })
        run.server.latency = { there: 0, back: 300 }
        run.mark(IDS[0]!)
        await run.time.pass(crashes)
        await run.crash(true)
        await run.time.pass(310 - crashes)
        run.server.latency = { there: 0, back: 0 }
        await run.time.pass(again)
        run.mark(IDS[0]!)
        await run.assertAllStored()
        run.assertSum()
      },
    ),
    { numRuns: 50 },
  )
})

test('close of a tracker over two connections counts what waits and what is under way, whatever was answered in time', async () => {
  const latency = fc.record({ there: fc.nat(300), back: fc.integer({ min: 1, max: 300 }) })
  const trouble = fc.constantFrom<Trouble>('lost', 'cut', undefined)
  await fc.assert(
    fc.asyncProperty(latency, latency, trouble, fc.nat(1_000), async (first, second, trouble, timeoutMs) => {
      using run = new Run(100_000, { exact: false, maxPending: 15_000, clocksAreRight: false, pool: true })
      run.server.latency = first
      run.server.second = { trouble, latency: second }
      for (const id of MANY.slice(0, 12_000)) run.mark(id)
      // So that no answer has the same time as the timeout.
      await run.time.pass(0.5)
      const again = MANY.slice(4_000, 7_000)
      for (const id of again) run.mark(id)
      run.drain()
      const { left, unanswered } = await run.close(timeoutMs)
      // After a failure the tracker does not trust the other answer, and sends the repeats again.
      const doubtful = trouble === undefined ? 0 : again.length
      assert.ok(left >= unanswered && left <= unanswered + doubtful, `${left} left, ${unanswered} unanswered`)
    }),
    { numRuns: 100 },
  )
})

/**
 * Two statements are under way, and another server takes over. The first one was stored at once, and is answered 300 ms
 * later. Then some of its ids are marked again.
 *
 * @param race In milliseconds: when the other server takes over, when the first answer is there, and after what pause from
 *   then on the ids are marked again.
 */
async function assertOldAnswerIsNotTrusted(race: {
  second: ModelServer['second']
  takesOver: number
  answeredAt: number
  again: number
}): Promise<void> {
  using run = new Run(100_000, { exact: false, maxPending: 15_000, clocksAreRight: false, pool: true })
  run.server.latency = { there: 0, back: 300 }
  run.server.second = race.second
  for (const id of MANY.slice(0, 10_000)) run.mark(id)
  await run.time.pass(race.takesOver)
  run.failOver()
  await run.time.pass(race.answeredAt - race.takesOver)
  run.server.latency = { there: 0, back: 0 }
  run.server.second = undefined
  await run.time.pass(race.again)
  for (const id of MANY.slice(0, 100)) run.mark(id)
  await run.assertAllStored()
  run.assertSum()
  assert.equal(run.mostUnderWay, 2)
}

/** @param clocksAreRight Whether nobody sets the wall clock. A clock that was set can make a mark be stored again. */
async function assertLosesNothing(kinds: fc.Arbitrary<Step>[], clocksAreRight: boolean): Promise<void> {
  await fc.assert(
    fc.asyncProperty(steps(kinds), periodMs, ending, async (steps, periodMs, ending) => {
      using run = new Run(periodMs, { exact: false, maxPending: IDS.length, clocksAreRight })
      for (const step of steps) await step(run)
      await run.assertAllStored()
      await run.assertClose(ending)
    }),
    { numRuns: 1_000 },
  )
}

function steps(kinds: fc.Arbitrary<Step>[], maxLength = 80): fc.Arbitrary<Step[]> {
  return fc.array(fc.oneof(...kinds), { minLength: 1, maxLength, size: 'max' })
}

/** A step with a text, which is shown if its run fails. */
function said<T>(name: string, values: fc.Arbitrary<T>, make: (value: T) => Step): fc.Arbitrary<Step> {
  return values.map(value =>
    Object.assign(make(value), { [fc.toStringMethod]: () => `${name} ${fc.stringify(value)}` }),
  )
}

/** A tracker, its model, and a server that tells the model all that the tracker learns. */
class Run implements Disposable {
  readonly time = new VirtualTime()
  readonly server: ModelServer
  /** How many statements were under way together. Only counted without a model. */
  mostUnderWay = 0
  readonly #periodMs: number
  readonly #clocksAreRight: boolean
  /** Undefined if the run blocks the event loop, because then the tracker can't know what the model knows. */
  readonly #model: ModelTracker | undefined
  readonly #tracker: UsageTracker
  readonly #lastMarks = new Map<string, number>()
  /** Of each statement, the ids that the model expects. */
  readonly #expected: string[][] = []
  /** The ids of the statements under way, by their number. */
  readonly #underWay = new Map<number, ReadonlySet<string>>()
  /** The ids of the statements that failed. */
  readonly #failed: ReadonlySet<string>[] = []
  /** How many statements had begun at the last failure, and whether none of the later ones has succeeded. */
  #lastFailure = 0
  #isOutage = false
  #marks = 0
  #unsettledDrains = 0
  #problem: unknown
  /** When the tracker last noticed that the server had lost what it had stored. Earlier marks may be lost. */
  #lossNoticedAt = Number.NEGATIVE_INFINITY
  #lossUnnoticed = false

  constructor(
    periodMs: number,
    {
      exact,
      maxPending,
      clocksAreRight = true,
      pool = false,
    }: { exact: boolean; maxPending: number; clocksAreRight?: boolean; pool?: boolean },
  ) {
    this.#clocksAreRight = clocksAreRight
    const model = exact ? new ModelTracker({ maxPending, maxBatch: MAX_BATCH }) : undefined
    this.#periodMs = periodMs
    this.#model = model
    this.server = new ModelServer(this.time, periodMs, {
      begun: () => {
        this.#expected.push(model?.send(this.time.now) ?? [])
        return this.#expected.length - 1
      },
      sent: (number, ids) => {
        if (model) this.#check(() => assert.deepEqual(ids.toSorted(), this.#expected[number]!.sort()))
        else this.#check(() => this.#assertAllowed(number, ids))
      },
      answered: (number, answer) => {
        this.#underWay.delete(number)
        if (number >= this.#lastFailure) this.#isOutage = false
        model?.succeed(answer, this.time.now)
        if (this.server.isCurrent(answer)) this.#noticeLoss()
      },
      failed: number => {
        const ids = this.#underWay.get(number)
        if (ids) this.#failed.push(ids)
        this.#underWay.delete(number)
        this.#lastFailure = this.#expected.length
        this.#isOutage = true
        model?.fail()
        this.#noticeLoss()
      },
      connectionBroke: () => {
        model?.forget()
        this.#noticeLoss()
      },
    })
    this.#tracker = new UsageTracker(pool ? this.server.asPool() : this.server, {
      maxPending,
      logger: collectLog().logger,
    })
  }

  mark(spelling: string): void {
    // So that no mark has the same time as the event before it.
    this.time.block(0.0001)
    this.#marks++
    this.#tracker.mark(spelling)
    const id = spelling.toLowerCase()
    if (this.#model?.mark(id, this.time.now) !== 'dropped') this.#lastMarks.set(id, this.time.now)
  }

  async crash(answersArrive = false): Promise<void> {
    this.#lossUnnoticed = true
    this.server.crash(answersArrive)
    await this.time.pass(0)
  }

  failOver(): void {
    this.#lossUnnoticed = true
    this.server.failOver()
  }

  drain(): void {
    const marks = new Map(this.#lastMarks)
    this.#unsettledDrains++
    this.#tracker
      .drain()
      .then(
        () => this.#check(() => this.#assertStored(marks)),
        error => this.#check(() => assert.ok(error instanceof MarksNotStoredError)),
      )
      .finally(() => this.#unsettledDrains--)
  }

  assertCounts(): void {
    if (this.#problem !== undefined) throw this.#problem
    const { marked, pending, ...counts } = this.#tracker.stats()
    assert.deepEqual([marked, pending, counts], [this.#marks, this.#model!.pendingMarks, this.#model!.counts])
  }

  /** Each mark is counted once. */
  assertSum(): void {
    const { marked, pending, dropped } = this.#tracker.stats()
    assert.deepEqual([marked, pending, dropped], [this.#marks, 0, 0])
  }

  async assertAllStored(): Promise<void> {
    this.server.trouble = undefined
    this.server.second = undefined
    this.drain()
    await this.time.pass(LONG_ENOUGH)
    assert.equal(this.#unsettledDrains, 0)
    if (this.#problem !== undefined) throw this.#problem
    this.#assertStored(this.#lastMarks)
    if (this.#clocksAreRight) this.#assertNoneTooLate()
  }

  async assertClose({ trouble, timeoutMs }: { trouble: Trouble; timeoutMs: number }): Promise<void> {
    this.server.trouble = trouble
    for (const id of IDS.slice(0, 3)) this.mark(id)
    // So that no answer has the same time as the timeout.
    await this.time.pass(0.5)
    this.drain()
    const closing = this.#tracker.close({ timeoutMs })
    this.#tracker.mark(IDS[4]!)
    await this.time.pass(timeoutMs)
    const { left } = await closing
    if (this.#model) assert.equal(left, this.#model.pendingIds)
    if (left === 0) this.#assertStored(this.#lastMarks)
    else assert.ok(trouble !== undefined || timeoutMs <= this.server.latency.there + this.server.latency.back)
    await this.time.pass(0)
    assert.equal(this.#unsettledDrains, 0)
    if (this.#problem !== undefined) throw this.#problem
    assert.equal(this.#tracker.stats().marked, this.#marks)
    assert.equal(this.server.listenerCount('error'), 0)
  }

  /** Closes the tracker. Tells what it says is left, and how many ids no answer is about. */
  async close(timeoutMs: number): Promise<{ left: number; unanswered: number }> {
    const closing = this.#tracker.close({ timeoutMs })
    await this.time.pass(timeoutMs)
    const { left } = await closing
    const unanswered = new Set(this.#lastMarks.keys())
    for (const { ids, answeredAt } of this.server.arrivals) {
      if (answeredAt !== undefined) for (const id of ids) unanswered.delete(id)
    }
    await this.time.pass(0)
    assert.equal(this.#unsettledDrains, 0)
    if (this.#problem !== undefined) throw this.#problem
    return { left, unanswered: unanswered.size }
  }

  [Symbol.dispose](): void {
    this.time[Symbol.dispose]()
  }

  /** Two statements are under way at most, the second one only if it is full, and none beside the first in an outage. */
  #assertAllowed(number: number, ids: readonly string[]): void {
    for (const others of this.#underWay.values()) {
      assert.ok(
        ids.every(id => !others.has(id)),
        'an id is in two statements under way',
      )
    }
    assert.ok(this.#underWay.size < 2, 'three statements are under way')
    if (this.#underWay.size > 0) {
      assert.ok(!this.#isOutage, 'a second statement is sent in an outage')
      const isAgain = this.#failed.some(({ size }) => size === ids.length)
      assert.ok(ids.length === MAX_BATCH || isAgain, 'a second statement is not full')
    }
    this.#underWay.set(number, new Set(ids))
    this.mostUnderWay = Math.max(this.mostUnderWay, this.#underWay.size)
  }

  #noticeLoss(): void {
    if (this.#lossUnnoticed) this.#lossNoticedAt = this.time.now
    this.#lossUnnoticed = false
  }

  #assertStored(marks: Map<string, number>): void {
    for (const [id, markedAt] of marks) {
      const periodEnd = this.server.periodEnds.get(id) ?? Number.NEGATIVE_INFINITY
      assert.ok(
        periodEnd > markedAt || this.#lossUnnoticed || markedAt <= this.#lossNoticedAt,
        `${id} was marked at ${markedAt} and is stored up to ${periodEnd}`,
      )
    }
  }

  /** No last_used_at is later than one period after the last mark was made, or after it was certain to be stored. */
  #assertNoneTooLate(): void {
    for (const [id, markedAt] of this.#lastMarks) {
      let stored = markedAt
      for (const { ids, sentAt, storedAt, answeredAt, openUntil } of this.server.arrivals) {
        if (answeredAt === undefined || answeredAt < markedAt || !ids.has(id)) continue
        stored = storedAt!
        if (sentAt >= markedAt || answeredAt < openUntil!) break
      }
      const periodEnd = this.server.periodEnds.get(id) ?? 0
      assert.ok(
        periodEnd <= Math.max(markedAt, stored) + this.#periodMs,
        `${id} was marked at ${markedAt} and seems used up to ${periodEnd}`,
      )
    }
  }

  /** Keeps a failed assertion for the test where a throw would only reach the tracker. */
  #check(assertion: () => void): void {
    try {
      assertion()
    } catch (error) {
      this.#problem ??= error
    }
  }
}
