import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { canonicalWorkspaceId } from '../workspace-id.ts'

/** What keeps a workspace alive, at one moment. */
export interface UsageExplanation {
  /** The id that was asked for, in lower case. */
  workspaceId: string
  /**
   * Whether the workspace is in `workspaces`. If it is not, `sources` may still list pending marks of it.
   */
  exists: boolean
  /** The last use by any source, pending usage included. Null if the workspace was never used. */
  lastUsedAt: Date | null
  /**
   * The last use by each source that is on record, newest first. Empty if the workspace was never used.
   *
   * A use may lack its source: if flushes keep no sources, or if something else wrote `workspaces.last_used_at`. The
   * list may then be empty as well, or older than `lastUsedAt`.
   */
  sources: SourceUsage[]
  /** The time of the answer by the database's clock. Count ages from here. The clock of this machine may differ. */
  asOf: Date
}

/** The last use of a workspace by one source. */
export interface SourceUsage {
  source: string
  /** Never in the future: for usage in the open period it is {@link UsageExplanation.asOf}. */
  lastUsedAt: Date
  /** Whether that usage is not flushed yet. */
  pending: boolean
}

interface ExplanationRow {
  known: boolean
  /** `pg` returns a number for '-infinity'. Some hosts store that for a workspace that was never used. */
  last_used_at: Date | number | null
  source: string | null
  source_used_at: Date | null
  pending: boolean | null
  as_of: Date
}

/**
 * Tells which sources used a workspace, and when. Pending usage counts. It is one statement, so it sees a flush that
 * runs at the same time as a whole or not at all.
 *
 * @param connection Where the statement runs. The role needs what `workspace-usage grant --reader` gives.
 * @throws {InvalidWorkspaceIdError} If the id is not a UUID; nothing is sent then.
 * @throws {NotMigratedError} If the views do not exist.
 * @throws {StandbyError} On a standby.
 */
export async function explainUsage(connection: Connection, workspaceId: string): Promise<UsageExplanation> {
  const id = canonicalWorkspaceId(workspaceId)
  const statement = sql<ExplanationRow>`
    SELECT
      a.workspace_id IS NOT NULL AS known,
      a.last_used_at,
      s.source,
      s.last_used_at AS source_used_at,
      s.pending,
      statement_timestamp() AS as_of
    FROM (SELECT ${id}::uuid AS id) asked
    LEFT JOIN workspace_activity a ON a.workspace_id = asked.id
    LEFT JOIN workspace_activity_by_source s ON s.workspace_id = asked.id
    ORDER BY s.last_used_at DESC, s.source`
  const { rows } = await execute(connection, compile(statement))
  const first = rows[0]!
  return {
    workspaceId: id,
    exists: first.known,
    lastUsedAt: first.last_used_at instanceof Date ? first.last_used_at : null,
    sources: rows.flatMap(row =>
      row.source === null
        ? []
        : { source: row.source, lastUsedAt: row.source_used_at!, pending: row.pending! },
    ),
    asOf: first.as_of,
  }
}
