import { InvalidWorkspaceIdError } from './errors.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/**
 * The canonical form of a workspace id: lower case, as PostgreSQL prints a `uuid`, so that two spellings of one
 * workspace compare equal.
 *
 * @param value A UUID in its 36-character form, in either case. The other spellings that PostgreSQL's `uuid` input
 *   accepts (braces, no hyphens) are refused: an id in such a form is more often a mistake than meant.
 * @throws {InvalidWorkspaceIdError} For anything else.
 */
export function canonicalWorkspaceId(value: string): string {
  if (typeof value !== 'string' || !UUID.test(value)) throw new InvalidWorkspaceIdError(value)
  return value.toLowerCase()
}
