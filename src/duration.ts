const SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800 }

/** What a length of time as text may be, in words. They follow "Allowed: " in an error. */
export const DURATION_WORDS = 'a whole number and a unit, such as 45s, 90m, 12h, 30d or 2w'

/**
 * Parses a length of time to seconds. It is a whole number and a unit, such as `30d`.
 *
 * @returns At least 1. Null if it is anything else.
 */
export function parseDuration(text: string): number | null {
  const [, count, unit] = /^(\d{1,9})([smhdw])$/.exec(text.trim()) ?? []
  const seconds = Number(count) * SECONDS[unit as keyof typeof SECONDS]
  return seconds >= 1 ? seconds : null
}

/** Whole seconds as they are typed, in the largest unit that holds them exactly. */
export function formatDuration(seconds: number): string {
  const [unit, length] = Object.entries(SECONDS).findLast(([, length]) => seconds % length === 0)!
  return `${seconds / length}${unit}`
}
