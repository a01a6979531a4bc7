import { InvalidWorkspaceIdError } from './errors.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/**
 * Returns the canonical form of a workspace id: lower case, as PostgreSQL prints a `uuid`. So two spellings of one id
 * become equal strings.
 *
 * @param value A UUID of 36 characters, in upper or lower case. PostgreSQL also accepts braces or no hyphens. Such an
 *   id is refused here, because it is more often a mistake than meant.
 * @throws {InvalidWorkspaceIdError} For anything else.
 */
export function canonicalWorkspaceId(value: string): string {
  if (typeof value !== 'string' || !UUID.test(value)) throw new InvalidWorkspaceIdError(value)
  return value.toLowerCase()
}
