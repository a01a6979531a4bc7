import { InvalidSourceError } from '../errors.ts'

/** The longest source, in characters: what `application_name` can hold, and what `pending_usage` checks. */
export const MAX_SOURCE_LENGTH = 63

/**
 * Checks a source before it travels, so that the caller learns of a bad one by name instead of by constraint.
 *
 * @param value 1 to 63 characters, counted as PostgreSQL counts them (code points), without NUL.
 * @throws {InvalidSourceError} For anything else.
 */
export function assertSource(value: string): string {
  if (
    typeof value !== 'string' ||
    value === '' ||
    value.includes('\0') ||
    [...value].length > MAX_SOURCE_LENGTH
  ) {
    throw new InvalidSourceError(value)
  }
  return value
}
