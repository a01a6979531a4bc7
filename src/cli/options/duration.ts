import { InvalidArgumentError } from 'commander'
import type { Allowed } from '../../options.ts'
import { assertAllowed } from './parsers.ts'

const SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800 }

/**
 * Parses a length of time to seconds. It is a whole number and a unit, such as `30d`.
 *
 * @param rule The rule for the seconds.
 */
export function durationAllowedBy(rule: Allowed): (text: string) => number {
  return text => {
    const [, count, unit] = /^(\d{1,9})([smhdw])$/.exec(text.trim()) ?? []
    const seconds = Number(count) * SECONDS[unit as keyof typeof SECONDS]
    if (!(seconds >= 1)) {
      throw new InvalidArgumentError('Allowed: a whole number and a unit, such as 45s, 90m, 12h, 30d or 2w.')
    }
    assertAllowed(rule, seconds, rule.range?.map(formatDuration).join(' to '))
    return seconds
  }
}

/** Whole seconds as they are typed, in the largest unit that holds them exactly. */
function formatDuration(seconds: number): string {
  const [unit, length] = Object.entries(SECONDS).findLast(([, length]) => seconds % length === 0)!
  return `${seconds / length}${unit}`
}
