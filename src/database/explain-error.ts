import { NotMigratedError, RowSecurityError, StandbyError, WorkspaceUsageError } from '../errors.ts'
import { sqlState } from './sql-state.ts'

/**
 * Names the two mistakes of deployment that PostgreSQL reports in terms of a statement: a database without our
 * schema, and a server or session that can't write. Any other error is returned as it is. For errors of statements
 * that did not go through `execute`: pg-boss's and Kysely's.
 */
export function explainDatabaseError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof WorkspaceUsageError) return error
  switch (sqlState(error)) {
    case '42P01': // undefined_table
    case '42883': // undefined_function
    case '3F000': // invalid_schema_name
    case '42703': // undefined_column
      return new NotMigratedError(error.message, { cause: error })
    case '0A000': // feature_not_supported, which is much else beside
      return readsUnloggedOnStandby(error) ? new StandbyError({ cause: error }) : error
    case '25006': // read_only_sql_transaction
      return new StandbyError({ cause: error })
    case '42501': // insufficient_privilege
      return refusesToHideRows(error) ? new RowSecurityError(null, null, { cause: error }) : error
    default:
      return error
  }
}

/**
 * Where PostgreSQL looks up what it knows of a table, it refuses temporary and UNLOGGED ones during recovery, and
 * nothing else with this code. The place is the same on 14 to 18; the text is translated.
 */
function readsUnloggedOnStandby(error: Error): boolean {
  return 'routine' in error && error.routine === 'get_relation_info'
}

/**
 * With `row_security = off`, PostgreSQL refuses a query from which it would hide rows. It is the same on 14 to 18. Our
 * views refuse by a function of ours, no_hidden_usage().
 */
function refusesToHideRows(error: Error): boolean {
  const { routine, constraint } = error as { routine?: unknown; constraint?: unknown }
  return routine === 'check_enable_rls' || constraint === 'no_hidden_usage'
}
