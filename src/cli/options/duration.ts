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
    assertAllowed(rule, seconds, rule.range?.map(formatDuration).join(' to '))
    return seconds
  }
}
