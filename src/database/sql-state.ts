import { NotMigratedError, StandbyError } from '../errors.ts'

/**
 * Names the two mistakes of deployment that PostgreSQL reports in terms of a statement: a database without our
 * schema, and a server or session that can't write. Any other error is returned as it is.
 */
export function explainDatabaseError(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  switch (sqlState(error)) {
    case '42P01': // undefined_table
    case '42883': // undefined_function
    case '3F000': // invalid_schema_name
    case '42703': // undefined_column
      return new NotMigratedError(error.message, { cause: error })
    case '0A000': // feature_not_supported: what reading an UNLOGGED table on a standby is called
    case '25006': // read_only_sql_transaction
      return new StandbyError({ cause: error })
    default:
      return error
  }
}

/** The SQLSTATE of an error that PostgreSQL raised; undefined for any other. */
export function sqlState(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined
  return /^[0-9A-Z]{5}$/.test(error.code) ? error.code : undefined
}
