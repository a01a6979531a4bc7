import { type Connection, execute, type Statement } from '../database/connection.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import { assertVisible, hiddenTable } from './visible.ts'

/** The last flush that committed: when, and what it counted. Each count means the same as in `FlushResult`. */
export interface LastFlush {
  /** When its statement ran, by the database's clock. */
  completedAt: Date
  flushed: number
  workspaces: number
  updated: number
  unknown: number
  held: number
  awaited: number
  refused: number
}

/**
 * Returns the last flush, whoever ran it: a worker or a flush by hand. Of a drain it is the last batch. Null if there
 * was none since the database was migrated or, by a crash of the server, `pending_usage` was emptied.
 *
 * @throws {NotMigratedError} If there is no `pending_usage_witness`.
 * @throws {RowSecurityError} If row-level security may hide rows from the role.
 * @throws {StandbyError} On a standby.
 */
export async function lastFlush(connection: Connection): Promise<LastFlush | null> {
  const statement: Statement<{ at: string | null; counts: string; hidden: string | null }> = {
    sql: `SELECT ${asIsoText('flushed_at')} AS at, counts::text AS counts,
        ${hiddenTable('pending_usage_witness')} AS hidden
      FROM (SELECT) one LEFT JOIN pending_usage_witness ON true`,
    parameters: [],
  }
  const row = (await execute(connection, statement)).rows[0]!
  assertVisible(row.hidden)
  if (row.at === null) return null
  // There may be more in it, of use to a flush only.
  const { flushed, workspaces, updated, unknown, held, awaited, refused } = JSON.parse(row.counts)
  return { completedAt: parseIsoText(row.at), flushed, workspaces, updated, unknown, held, awaited, refused }
}
