import { WorkspaceUsageError } from '../errors.ts'

/**
 * Returns the SQLSTATE of an error that PostgreSQL raised, or of the cause of an error of ours. Undefined for any
 * other.
 */
export function sqlState(error: unknown): string | undefined {
  const raised = error instanceof WorkspaceUsageError ? error.cause : error
  if (!(raised instanceof Error) || !('code' in raised) || typeof raised.code !== 'string') return undefined
  return /^[0-9A-Z]{5}$/.test(raised.code) ? raised.code : undefined
}
