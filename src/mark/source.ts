import { InvalidSourceError } from '../errors.ts'
import { whatever } from '../options.ts'

/** The most characters of a source. `application_name` can hold no more, and `pending_usage` accepts no more. */
export const MAX_SOURCE_LENGTH = 63

/** The rule of the option `source`. It accepts everything, because {@link assertSource} has an error of its own. */
export const A_SOURCE = whatever('a source', () => true)

/**
 * Checks a source before it is sent. The error tells what is wrong with it. PostgreSQL would only name a constraint.
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
