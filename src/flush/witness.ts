import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import type { FlushResult } from './flush.ts'

/**
 * Puts the witness back if it is missing, notes that for good, and tells whether it was.
 *
 * The witness is one row in an UNLOGGED table. A crash of the server or the promotion of a standby empties all UNLOGGED
 * tables together. So if the witness is missing, `pending_usage` was emptied since the last call.
 *
 * Inside a transaction the witness is back when that commits. Of several callers only one gets true.
 *
 * @throws {NotMigratedError} If the table of the witness is missing.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function restoreWitness(connection: Connection): Promise<boolean> {
  const { affected } = await execute(
    connection,
    // Where it is there, nothing is inserted. An INSERT could wait for a flush that has just noted itself on it.
    compile(sql`
      WITH restored AS (
        INSERT INTO pending_usage_witness (present)
        SELECT true WHERE NOT EXISTS (SELECT FROM pending_usage_witness) ON CONFLICT DO NOTHING
        RETURNING present
      )
      INSERT INTO pending_usage_reset (noticed_at, flushed_until)
      SELECT clock_timestamp(), (SELECT max(last_used_at) FROM source_usage) FROM restored`),
  )
  return affected === 1
}

/**
 * The SQL that notes on the witness when the last flush ran and what it counted, for `status`. Of flushes that run
 * together, one is noted.
 *
 * @param counts SQL of the counts, in JSON.
 */
export function note(counts: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`
      UPDATE pending_usage_witness SET flushed_at = statement_timestamp(), counts = ${counts}
      WHERE present = (SELECT present FROM pending_usage_witness FOR UPDATE SKIP LOCKED)`
}

/** Notes the sums of a flush that took more than one statement. */
export async function noteFlush(
  connection: Connection,
  { flushed, workspaces, updated, unknown, held, awaited, refused }: FlushResult,
): Promise<void> {
  const counts = JSON.stringify({ flushed, workspaces, updated, unknown, held, awaited, refused })
  await execute(connection, compile(note(sql`${counts}::jsonb`)))
}
