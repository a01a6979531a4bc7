import { RowSecurityError } from '../errors.ts'

/*
 * Row security hides rows without an error. Statements that read our tables directly ask in the same snapshot whether it
 * does. The views ask by themselves.
 */

/** SQL that tells, as JSON, the first table whose row security applies to the current user. NULL if there is none. */
export function hiddenTable(...tables: readonly string[]): string {
  const names = tables.map(name => `'${name}'`).join(', ')
  return `(SELECT json_build_array(name, current_user)::text
    FROM unnest(ARRAY[${names}]) AS name WHERE row_security_active(name) LIMIT 1)`
}

/**
 * @param hidden What {@link hiddenTable} told.
 * @throws {RowSecurityError} If a table may hide rows.
 */
export function assertVisible(hidden: string | null): void {
  if (hidden === null) return
  const [table, role] = JSON.parse(hidden) as [string, string]
  throw new RowSecurityError(table, role)
}
