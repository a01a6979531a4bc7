import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import type { FlushResult } from './flush.ts'

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
