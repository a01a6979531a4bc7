import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'

/**
 * Whether `pending_usage` was emptied since this was last asked, by a crash of the server or the promotion of a
 * standby. UNLOGGED tables are emptied together, so a row that is always there is missing then; it is put back, in
 * the transaction of the connection if it is in one, so that of all who ask one is told.
 *
 * @throws {NotMigratedError} If the table of the witness is missing.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function pendingUsageWasEmptied(connection: Connection): Promise<boolean> {
  const { affected } = await execute(
    connection,
    compile(sql`INSERT INTO pending_usage_witness DEFAULT VALUES ON CONFLICT DO NOTHING`),
  )
  return affected === 1
}
