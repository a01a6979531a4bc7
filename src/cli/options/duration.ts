import { InvalidArgumentError } from 'commander'
import { DURATION_WORDS, formatDuration, parseDuration } from '../../duration.ts'
import type { Allowed } from '../../options.ts'
import { assertAllowed } from './parsers.ts'

/**
 * Parses a length of time to seconds. It is a whole number and a unit, such as `30d`.
 *
 * @param rule The rule for the seconds.
 */
export function durationAllowedBy(rule: Allowed): (text: string) => number {
  return text => {
    const seconds = parseDuration(text)
    if (seconds === null) throw new InvalidArgumentError(`Allowed: ${DURATION_WORDS}.`)
    // No length of 0 can be typed, even if the rule allows it.
    assertAllowed(rule, seconds, rule.range?.map(end => formatDuration(Math.max(1, end))).join(' to '))
    return seconds
  }
}
