import { InvalidSourceError } from '../errors.ts'
import { whatever } from '../options.ts'

/** The most characters of a source. `application_name` can hold no more, and `pending_usage` has no more room. */
export const MAX_SOURCE_LENGTH = 63

/** What a source may be. PostgreSQL counts characters as code points. */
export const A_SOURCE = whatever(
  `a text of 1 to ${MAX_SOURCE_LENGTH} characters without NUL`,
  value =>
    typeof value === 'string' &&
    value !== '' &&
    !value.includes('\0') &&
    [...value].length <= MAX_SOURCE_LENGTH,
)

/** The rule of the option `source`. It accepts everything, because {@link assertSource} has an error of its own. */
export const SOURCE_OPTION = whatever(A_SOURCE.words, () => true)

/**
 * Checks a source before it is sent. The error tells what is wrong with it. PostgreSQL would only name a type, cut blanks at
 * the end, and store an empty one.
 *
 * @throws {InvalidSourceError} If it is not what {@link A_SOURCE} allows.
 */
export function assertSource(value: string): string {
  if (!A_SOURCE.accepts(value)) throw new InvalidSourceError(value)
  return value
}
