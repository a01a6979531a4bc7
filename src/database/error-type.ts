import { sqlState } from './sql-state.ts'

/** The form of a code of Node.js, such as `ECONNREFUSED`. */
const A_CODE = /^[A-Z][A-Z0-9_]{2,39}$/

/**
 * The value of OpenTelemetry's attribute `error.type`, one of few: the SQLSTATE of an error of PostgreSQL, the code of
 * an error of Node.js, or the name of the class of any other.
 */
export function errorType(error: unknown): string {
  const state = sqlState(error)
  if (state !== undefined) return state
  if (!(error instanceof Error)) return typeof error
  const { code } = error as { code?: unknown }
  return typeof code === 'string' && A_CODE.test(code) ? code : error.name
}
