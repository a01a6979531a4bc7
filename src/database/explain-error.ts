import { NotMigratedError, RowSecurityError, StandbyError, WorkspaceUsageError } from '../errors.ts'
import { sqlState } from './sql-state.ts'

/**
 * Names the mistakes of deployment that PostgreSQL reports in terms of a statement: a database without our schema, a
 * server or session that can't write, and row security that hides rows. Any other error is returned as it is. For
 * errors of statements that did not go through `execute`: pg-boss's and Kysely's.
 *
 * It goes by SQLSTATE and by the place in PostgreSQL's source, because the texts are translated.
 *
 * @param schema The schema that was named for the tables. Default: `search_path` leads to them.
 */
export function explainDatabaseError(error: unknown, schema: string | null = null): unknown {
  if (!(error instanceof Error) || error instanceof WorkspaceUsageError) return error
  switch (sqlState(error)) {
    case '42P01': // undefined_table
    case '42883': // undefined_function
    case '3F000': // invalid_schema_name
    case '42703': // undefined_column
      return missesOurs(error) ? new NotMigratedError(error.message, { cause: error, schema }) : error
    case '0A000': // feature_not_supported, which is much else beside
      return REFUSED_BY_STANDBY.includes(routineOf(error)) ? new StandbyError({ cause: error }) : error
    case '25006': // read_only_sql_transaction
      return new StandbyError({ cause: error })
    case '42501': // insufficient_privilege
      return refusesToHideRows(error) ? new RowSecurityError(null, null, { cause: error }) : error
    default:
      return error
  }
}

/** The function in PostgreSQL's source that raised the error. */
function routineOf(error: Error): string {
  return 'routine' in error && typeof error.routine === 'string' ? error.routine : ''
}

/**
 * Whether the object that does not exist is one of ours. An error with a context was raised within a function, and we
 * have none that names an object: it is a trigger or a function of the host. A missing operator has the code of a
 * missing function, but we create none: a column of the host's table has another type.
 */
function missesOurs(error: Error): boolean {
  return !('where' in error && error.where) && routineOf(error) !== 'op_error'
}

/**
 * The places where a standby refuses what a primary does. Where PostgreSQL looks up what it knows of a table, it refuses
 * temporary and UNLOGGED ones during recovery, and nothing else with this code. The others are those of transactions
 * that are to be serializable. They are the same on 14 to 18.
 */
const REFUSED_BY_STANDBY = [
  'get_relation_info',
  'GetSerializableTransactionSnapshot',
  'check_transaction_isolation',
  'check_XactIsoLevel',
]

/**
 * With `row_security = off`, PostgreSQL refuses a query from which it would hide rows. It is the same on 14 to 18. Our
 * views refuse by a function of ours, no_hidden_usage().
 */
function refusesToHideRows(error: Error): boolean {
  return (
    routineOf(error) === 'check_enable_rls' ||
    ('constraint' in error && error.constraint === 'no_hidden_usage')
  )
}
