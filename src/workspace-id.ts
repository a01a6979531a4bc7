import { InvalidWorkspaceIdError } from './errors.ts'

/** The types that `workspaces.id` may have. `text` stands for `varchar` too. */
export type WorkspaceIdType = 'uuid' | 'bigint' | 'integer' | 'text'

/** A workspace id as it is passed. Of ids that are numbers, it may be a string, a number or a bigint. */
export type WorkspaceId = string | number | bigint

/** All types that `workspaces.id` may have. */
export const WORKSPACE_ID_TYPES: readonly WorkspaceIdType[] = ['uuid', 'bigint', 'integer', 'text']

/** The most characters of an id of type `text`. They are counted as PostgreSQL does: by code points. */
export const MAX_TEXT_ID_LENGTH = 255

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i
const INTEGER = /^(?:0|-?[1-9][0-9]{0,18})$/
const MAX_BIGINT = 2n ** 63n - 1n
const MAX_INTEGER = 2 ** 31 - 1

/**
 * Returns the canonical form of a workspace id, as PostgreSQL prints it. So two spellings of one id become equal
 * strings.
 *
 * - `uuid`: 36 characters, in upper or lower case. The result is in lower case. PostgreSQL also accepts braces or no
 *   hyphens. Such an id is refused here, because it is more often a mistake than meant.
 * - `bigint` and `integer`: a string of digits, perhaps after a minus, without leading zeros; or a `bigint`, or a
 *   `number` that is a safe integer.
 * - `text`: a string of 1 to 255 characters (code points) without NUL and without half a surrogate pair. It stays as it
 *   is: upper and lower case and spaces count.
 *
 * @param value The id, as the host has it in `workspaces.id`.
 * @param type The type of `workspaces.id`. Default `uuid`.
 * @throws {InvalidWorkspaceIdError} For anything else.
 */
export function canonicalWorkspaceId(value: WorkspaceId, type: WorkspaceIdType = 'uuid'): string {
  if (type === 'uuid') {
    if (typeof value === 'string' && UUID.test(value)) return value.toLowerCase()
  } else if (type === 'text') {
    if (typeof value === 'string' && isTextId(value)) return value
  } else {
    const text = typeof value === 'string' ? value : integerText(value)
    if (INTEGER.test(text) && isWithin(text, type)) return text
  }
  throw new InvalidWorkspaceIdError(value, type)
}

/** The digits of an integer. Anything else becomes a text that is no integer. */
function integerText(value: unknown): string {
  return typeof value === 'bigint' || Number.isSafeInteger(value) ? String(value) : ''
}

function isWithin(text: string, type: 'bigint' | 'integer'): boolean {
  if (type === 'integer')
    return text.length < 12 && Number(text) <= MAX_INTEGER && Number(text) >= -MAX_INTEGER - 1
  if (text.length < 19) return true
  const value = BigInt(text)
  return value <= MAX_BIGINT && value >= -MAX_BIGINT - 1n
}

function isTextId(value: string): boolean {
  const { length } = value
  if (length === 0 || length > 2 * MAX_TEXT_ID_LENGTH) return false
  if (length > MAX_TEXT_ID_LENGTH && [...value].length > MAX_TEXT_ID_LENGTH) return false
  return !value.includes('\0') && value.isWellFormed()
}
