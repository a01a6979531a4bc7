import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { sqlState } from '../database/sql-state.ts'
import { type Duty, InsufficientPrivilegeError } from '../errors.ts'

/**
 * Says what to grant, if PostgreSQL refused a statement for want of a privilege (SQLSTATE 42501): the command that
 * gives a role what its duty needs. Where a trigger of the host's was refused, PostgreSQL's own message and the place
 * in the trigger tell what is missing beside that. Any other error is returned as it is, and so is this one if the
 * role can't be asked for.
 *
 * @param connection Of the same role, and not in the transaction that failed.
 */
export async function explainPrivilegeError(
  connection: Connection,
  error: unknown,
  duty: Duty,
): Promise<unknown> {
  if (!(error instanceof Error) || sqlState(error) !== '42501') return error
  const where = 'where' in error && typeof error.where === 'string' ? error.where : null
  try {
    const { rows } = await execute(connection, compile(sql<{ role: string }>`SELECT current_user AS role`))
    return new InsufficientPrivilegeError(rows[0]!.role, duty, error.message, where, { cause: error })
  } catch {
    return error
  }
}
