import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type Interval,
  intervalsOf,
  minutesUsed,
  SLOT_MS,
  SLOTS_OF_A_DAY,
  sinceOf,
  type UsedDay,
  usedSlots,
  within,
} from '../../src/activity/intervals.ts'

/*
 * The algebra of intervals, against a model that goes through all slots one by one. The days are about the start of
 * 2026, in milliseconds.
 */

const DAY_MS = SLOTS_OF_A_DAY * SLOT_MS
const FIRST_DAY = 20_454

/** The days that these uses fill, as the database writes them: `from` begins a slot or is alone in the last one. */
function daysOf(uses: readonly Interval[]): UsedDay[] {
  const days = new Map<number, UsedDay>()
  for (const { from, until } of uses) {
    const last = Math.ceil(until / SLOT_MS) - 1
    for (let slot = Math.min(last, Math.ceil(from / SLOT_MS)); slot <= last; slot++) {
      const day = Math.floor(slot / SLOTS_OF_A_DAY)
      const [firstUsedAt, lastUsedAt] = [Math.max(from, day * DAY_MS), Math.min(until, (day + 1) * DAY_MS)]
      const known = days.get(day) ?? { day, slots: '0'.repeat(SLOTS_OF_A_DAY), firstUsedAt, lastUsedAt }
      const place = slot % SLOTS_OF_A_DAY
      days.set(day, {
        day,
        slots: `${known.slots.slice(0, place)}1${known.slots.slice(place + 1)}`,
        firstUsedAt: Math.min(known.firstUsedAt, firstUsedAt),
        lastUsedAt: Math.max(known.lastUsedAt, lastUsedAt),
      })
    }
  }
  return [...days.values()]
}

const use = fc
  .tuple(fc.nat(3 * DAY_MS), fc.oneof(fc.constant(30_000), fc.nat(DAY_MS)))
  .map(([after, length]) => {
    const until = FIRST_DAY * DAY_MS + 1 + after
    return { from: until - length, until }
  })
const uses = fc.array(use, { maxLength: 20 })
const breakSeconds = fc.integer({ min: 300, max: 7_200 })

/** Slots of which the distance is not a break, one group after the other. */
function groups(slots: readonly number[], seconds: number): number[][] {
  const sorted = slots.toSorted((one, other) => one - other)
  const found: number[][] = []
  for (const slot of sorted) {
    const group = found.at(-1)
    if (group && (slot - group.at(-1)! - 1) * 300 < seconds) group.push(slot)
    else found.push([slot])
  }
  return found
}

test('intervals hold exactly the used slots and the breaks that are bridged', () => {
  fc.assert(
    fc.property(uses, breakSeconds, (some, seconds) => {
      const days = daysOf(some)
      const expected = groups([...usedSlots(days)], seconds)
      const intervals = intervalsOf(days, seconds)
      assert.deepEqual(
        intervals.map(({ until }) => Math.ceil(until / SLOT_MS) - 1),
        expected.map(group => group.at(-1)),
      )
      for (const [index, { from, until }] of intervals.entries()) {
        assert.ok(from <= until)
        // The beginning is in the first slot, or in the slot before, if that is not filled.
        const first = expected[index]![0]!
        assert.ok(from > (first - 1) * SLOT_MS && from < (first + 1) * SLOT_MS)
        if (index > 0) assert.ok(from > intervals[index - 1]!.until)
      }
    }),
  )
})

test('intervals are the same in whatever order the days come, and if the days of two sources are put together', () => {
  const shuffledUses = uses.chain(some =>
    fc.tuple(fc.constant(some), fc.shuffledSubarray(some, { minLength: some.length }), fc.nat(some.length)),
  )
  fc.assert(
    fc.property(shuffledUses, breakSeconds, ([some, others, middle], seconds) => {
      const expected = intervalsOf(daysOf(some), seconds)
      assert.deepEqual(intervalsOf(daysOf(others).reverse(), seconds), expected)
      const parts = [...daysOf(others.slice(0, middle)), ...daysOf(others.slice(middle))]
      // Another part begins in its first slot, and not with it.
      const roughly = ({ until }: Interval) => Math.ceil(until / SLOT_MS)
      const found = intervalsOf(parts, seconds)
      assert.deepEqual(found.map(roughly), expected.map(roughly))
      for (const [index, { from }] of found.entries())
        assert.ok(Math.abs(from - expected[index]!.from) < SLOT_MS)
    }),
  )
})

test('the first use of all and the last one are exact', () => {
  fc.assert(
    fc.property(fc.array(use, { minLength: 1, maxLength: 20 }), breakSeconds, (some, seconds) => {
      const intervals = intervalsOf(daysOf(some), seconds)
      assert.equal(intervals.at(-1)!.until, Math.max(...some.map(({ until }) => until)))
      const [first] = daysOf(some).toSorted((one, other) => one.day - other.day)
      assert.equal(intervals[0]!.from, first!.firstUsedAt)
    }),
  )
})

test('a longer break leaves at most as many intervals, and none of them ends a shorter one', () => {
  fc.assert(
    fc.property(uses, breakSeconds, breakSeconds, (some, one, other) => {
      const days = daysOf(some)
      const short = intervalsOf(days, Math.min(one, other))
      const long = intervalsOf(days, Math.max(one, other))
      for (const { from, until } of short)
        assert.ok(long.some(outer => outer.from <= from && outer.until >= until))
      assert.ok(long.length <= short.length)
    }),
  )
})

test('a window cuts intervals off, and whole slots of it are counted', () => {
  fc.assert(
    fc.property(uses, use, (some, window) => {
      const days = daysOf(some)
      for (const { from, until } of within(intervalsOf(days, 300), window))
        assert.ok(window.from <= from && from <= until && until <= window.until)
      const inWindow = [...usedSlots(days)].filter(
        slot => slot * SLOT_MS < window.until && (slot + 1) * SLOT_MS > window.from,
      )
      assert.equal(minutesUsed(days, window), inWindow.length * 5)
    }),
  )
})

const at = (time: string) => Date.parse(`2026-03-01T${time}Z`)
const marks = (...ends: string[]) => daysOf(ends.map(end => ({ from: at(end) - 30_000, until: at(end) })))

test('an empty slot is a break of more than five minutes, and two are one of more than ten', () => {
  const days = marks('10:01:00', '10:07:00', '10:16:00', '10:31:00')
  const starts = (seconds: number) =>
    intervalsOf(days, seconds).map(({ from }) => new Date(from).toISOString().slice(11, 16))
  assert.deepEqual(starts(300), ['10:00', '10:15', '10:30'])
  assert.deepEqual(starts(301), ['10:00', '10:30'])
  assert.deepEqual(starts(600), ['10:00', '10:30'])
  assert.deepEqual(starts(601), ['10:00'])
})

test('midnight is no break', () => {
  const days = daysOf([
    { from: at('23:59:30'), until: at('23:59:30') + 30_000 },
    { from: at('23:59:30') + 30_000, until: at('23:59:30') + 60_000 },
  ])
  assert.equal(days.length, 2)
  assert.deepEqual(intervalsOf(days, 300), [{ from: at('23:59:30'), until: at('23:59:30') + 60_000 }])
})

test('a use lasts since the beginning of its last interval, unless that is over by more than the break', () => {
  const intervals = intervalsOf(marks('09:00:00', '10:01:00', '10:06:00'), 300)
  assert.equal(sinceOf(intervals, at('10:11:00'), 300), at('10:00:00'))
  assert.equal(sinceOf(intervals, at('10:11:00') + 1, 300), null)
  assert.equal(sinceOf(intervals, at('10:20:00'), 900), at('10:00:00'))
  assert.equal(sinceOf([], at('10:00:00'), 300), null)
})
