import { SLOT_MS, slotOf } from '../../activity/intervals.ts'

/** The characters of a bar: not used, used for a part, for half, for most, and all the time. */
export interface Shades {
  readonly unused: string
  readonly used: readonly [some: string, half: string, most: string, all: string]
}

export const BLOCKS: Shades = { unused: '·', used: ['░', '▒', '▓', '█'] }
export const ASCII: Shades = { unused: '.', used: ['-', '+', 'x', '#'] }

/** What a bar shows: a character a cell of time. */
export interface Cells {
  /** Where the first cell begins, in milliseconds. A slot begins then as well. */
  from: number
  count: number
  /** The length of a cell: a multiple of {@link SLOT_MS}. */
  ms: number
}

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

/** The numbers of characters that a bar of a day may have. Hours begin with a cell. */
const CELLS_OF_A_DAY = [144, 96, 72, 48, 24]

/** The most cells of a day that fit into a number of characters. */
export function cellsOfADay(width: number): number {
  return CELLS_OF_A_DAY.find(count => count <= width) ?? CELLS_OF_A_DAY.at(-1)!
}

/** The last 24 hours. The last cell has the present in it. */
export function lastDay(now: number, count: number): Cells {
  const ms = DAY_MS / count
  return { from: (Math.ceil(now / ms) - count) * ms, count, ms }
}

/**
 * Draws when there was use. Only a cell that is used in all its slots is full, so that each break is seen. The slot of
 * the present may still be used, so it counts only if it is. What is ahead is blank.
 */
export function bar(
  used: ReadonlySet<number>,
  { from, count, ms }: Cells,
  now: number,
  shades: Shades,
): string {
  const present = slotOf(now)
  let text = ''
  for (let start = from; start < from + count * ms; start += ms) {
    let [some, all] = [0, 0]
    for (let slot = slotOf(start); slot < slotOf(start + ms); slot++) {
      if (used.has(slot)) some++
      if (used.has(slot) || slot < present) all++
    }
    text += all === 0 ? ' ' : some === 0 ? shades.unused : shades.used[Math.floor((some / all) * 3)]!
  }
  return text
}

/** The hours above a bar, in UTC. */
export function hours({ from, count, ms }: Cells): string {
  const every = 3 * HOUR_MS
  let text = ''
  for (let cell = 0; cell < count; cell++) {
    const start = from + cell * ms
    if (start % every === 0 && cell + 2 <= count) {
      text = text.padEnd(cell) + new Date(start).toISOString().slice(11, 13)
    }
  }
  return text.padEnd(count)
}

/** The length of one cell in words: `20 minutes`. */
export function cellInWords({ ms }: Cells): string {
  return ms === HOUR_MS ? 'an hour' : `${ms / 60_000} minutes`
}

/** Used minutes: `45 min`, `11 h 5 min`. */
export function formatMinutes(minutes: number): string {
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60]
  if (hours === 0) return `${rest} min`
  return rest === 0 ? `${hours} h` : `${hours} h ${rest} min`
}

/** The midnights of the days of a window, in UTC. */
export function midnights(from: number, until: number): number[] {
  const found: number[] = []
  for (let day = Math.floor(from / DAY_MS) * DAY_MS; day < until; day += DAY_MS) found.push(day)
  return found
}

/** All of a day of UTC. */
export function wholeDay(midnight: number, count: number): Cells {
  return { from: midnight, count, ms: DAY_MS / count }
}

/** The slots that begin in a cell or in several of them. */
export function isIn(slot: number, { from, count, ms }: Cells): boolean {
  return slot * SLOT_MS >= from && slot * SLOT_MS < from + count * ms
}
