import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'

/**
 * Puts the witness back, and tells whether it was missing: then `pending_usage` was emptied since the last call, by a
 * crash of the server or the promotion of a standby. A crash empties all UNLOGGED tables together, so the witness, a row
 * that is always there, is gone when the marks are. In a transaction it is put back with that, so that exactly one of all
 * who ask is told.
 *
 * @throws {NotMigratedError} If the table of the witness is missing.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function restoreWitness(connection: Connection): Promise<boolean> {
  const { affected } = await execute(
    connection,
    compile(sql`INSERT INTO pending_usage_witness DEFAULT VALUES ON CONFLICT DO NOTHING`),
  )
  return affected === 1
}
