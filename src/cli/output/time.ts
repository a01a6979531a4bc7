import { TimeColumn } from './time-column.ts'

const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
  ['s', 1],
] as const

/** A length of time for people, in the largest unit that fits, rounded down: `3 d` or `45 s`. */
export function formatAge(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds))
  const [unit, length] = UNITS.find(([, length]) => whole >= length) ?? ['s', 1]
  return `${Math.floor(whole / length)} ${unit}`
}

/** A time for people, to the second and in UTC: `2026-03-01 12:00:00Z`. */
export function formatTime(time: Date): string {
  return new TimeColumn().toSecond(time.getTime())
}
