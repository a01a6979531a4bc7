import { type Connection, execute } from '../database/connection.ts'
import { schemaOf } from '../database/schema-path.ts'
import { sqlState } from '../database/sql-state.ts'
import { type Duty, InsufficientPrivilegeError, RowSecurityError } from '../errors.ts'

/**
 * Adds the remedy to an error that says that a privilege is missing (SQLSTATE 42501): the command that gives the role
 * what its duty needs. If a trigger of the host was refused, the error also tells the place in the trigger. Another
 * error is returned as it is. If the name of the role can't be read, this error is returned as it is too.
 *
 * @param connection Has the same role. It must not be in the transaction that failed.
 * @param schema The schema that was named for the tables. Default: that of the connection.
 */
export async function explainPrivilegeError(
  connection: Connection,
  error: unknown,
  duty: Duty,
  schema: string | null = schemaOf(connection),
): Promise<unknown> {
  // No privilege helps against row security, which has the same SQLSTATE.
  if (!(error instanceof Error) || error instanceof RowSecurityError || sqlState(error) !== '42501')
    return error
  const where = 'where' in error && typeof error.where === 'string' ? error.where : null
  try {
    const { rows } = await execute<{ role: string }>(connection, {
      sql: 'SELECT current_user::text AS role',
      parameters: [],
    })
    return new InsufficientPrivilegeError(rows[0]!.role, duty, error.message, where, { cause: error, schema })
  } catch {
    return error
  }
}
