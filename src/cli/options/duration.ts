import { InvalidArgumentError } from 'commander'

const SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800 }

/**
 * An option's parser for a length of time, such as `30d`: a whole number and a unit. Returns seconds, at
 * least 1.
 */
export function parseDuration(text: string): number {
  const [, count, unit] = /^(\d{1,9})([smhdw])$/.exec(text.trim()) ?? []
  const seconds = Number(count) * SECONDS[unit as keyof typeof SECONDS]
  if (!(seconds >= 1)) {
    throw new InvalidArgumentError(
      `"${text}" is not a duration; allowed: 45s, 90m, 12h, 30d, 2w and the like.`,
    )
  }
  return seconds
}
