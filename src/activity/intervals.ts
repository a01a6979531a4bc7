/*
 * The algebra of a history of use: from days with a bit for each slot of five minutes to intervals. All times are
 * milliseconds since 1970. Nothing depends on the order of the days.
 */

/** The length of a slot. */
export const SLOT_MS = 300_000

/** The slots of a day of UTC. */
export const SLOTS_OF_A_DAY = 288

/** When one source used a workspace on one day of UTC. */
export interface UsedDay {
  /** Days since 1970. */
  day: number
  /** A character for each slot of the day, from midnight on: `1` if it was used in that slot, else `0`. */
  slots: string
  /** The first moment of use. It may be before the first used slot, because a use that begins in a slot may not fill it. */
  firstUsedAt: number
  /** The last moment of use. It is in the last used slot, or its end. */
  lastUsedAt: number
}

/** A time of use. */
export interface Interval {
  from: number
  until: number
}

/** An interval, and its slots, numbered from 1970 on. */
interface Run extends Interval {
  first: number
  last: number
}

/**
 * The intervals of use, the oldest first.
 *
 * @param days Those of one source, or of several whose use is to be seen as one. In any order, also with a day twice.
 * @param breakSeconds The longest break that does not end an interval. An empty slot is a break of more than five minutes.
 */
export function intervalsOf(days: readonly UsedDay[], breakSeconds: number): Interval[] {
  const runs = days.flatMap(runsOf).sort((one, other) => one.first - other.first)
  const merged: Run[] = []
  for (const run of runs) {
    const before = merged.at(-1)
    if (before && (run.first - before.last - 1) * SLOT_MS < breakSeconds * 1_000) {
      before.from = Math.min(before.from, run.from)
      before.until = Math.max(before.until, run.until)
      before.last = Math.max(before.last, run.last)
    } else merged.push({ ...run })
  }
  return merged.map(({ from, until }) => ({ from, until }))
}

/** The used slots of a day that follow each other. The first begins and the last ends when the use did. */
function runsOf({ day, slots, firstUsedAt, lastUsedAt }: UsedDay): Run[] {
  const found = [...slots.matchAll(/1+/g)]
  return found.map(({ index, 0: { length } }, place) => {
    const first = day * SLOTS_OF_A_DAY + index
    const last = first + length - 1
    const end = (last + 1) * SLOT_MS
    const until = place === found.length - 1 ? Math.min(lastUsedAt, end) : end
    return { first, last, from: place === 0 ? Math.min(firstUsedAt, until) : first * SLOT_MS, until }
  })
}

/** The parts of intervals that are in a window. */
export function within(intervals: readonly Interval[], window: Interval): Interval[] {
  return intervals
    .map(({ from, until }) => ({ from: Math.max(from, window.from), until: Math.min(until, window.until) }))
    .filter(({ from, until }) => from <= until && until > window.from)
}

/** Since when there is use without a break. Null if the last one is over by more than the break. */
export function sinceOf(intervals: readonly Interval[], now: number, breakSeconds: number): number | null {
  const last = intervals.at(-1)
  return last !== undefined && now - last.until <= breakSeconds * 1_000 ? last.from : null
}

/** The number of the slot that a time is in. */
export function slotOf(time: number): number {
  return Math.floor(time / SLOT_MS)
}

/** The numbers of the used slots. */
export function usedSlots(days: readonly UsedDay[]): Set<number> {
  const used = new Set<number>()
  for (const { day, slots } of days) {
    for (let slot = slots.indexOf('1'); slot >= 0; slot = slots.indexOf('1', slot + 1))
      used.add(day * SLOTS_OF_A_DAY + slot)
  }
  return used
}

/** How many minutes of a window are used, in whole slots. A slot counts if a part of it is in the window. */
export function minutesUsed(days: readonly UsedDay[], window: Interval): number {
  const [first, last] = [slotOf(window.from), Math.ceil(window.until / SLOT_MS) - 1]
  const slots = [...usedSlots(days)].filter(slot => slot >= first && slot <= last)
  return (slots.length * SLOT_MS) / 60_000
}
