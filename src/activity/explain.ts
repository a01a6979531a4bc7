import { type Connection, execute, type Statement } from '../database/connection.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import { canonicalWorkspaceId } from '../workspace-id.ts'

/** What keeps a workspace alive, at one moment. */
export interface UsageExplanation {
  /** The id that was asked for, in lower case. */
  workspaceId: string
  /**
   * Whether the workspace is in `workspaces`. If it is not, `sources` may still list pending marks of it.
   */
  exists: boolean
  /**
   * The last use by any source, pending usage included. Null if the workspace was never used. What some hosts write for
   * that counts as never: NULL, an infinity, and any time before 1970-01-02. It is in the future only if something else
   * than a flush wrote such a time.
   */
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

/** An answer as JSON, because a host's driver may read columns of other types in ways of its own. */
interface ExplanationRow {
  line: string
}

interface Line {
  known: boolean
  lastUsedAt: string | null
  source: string | null
  sourceUsedAt: string
  pending: boolean
  asOf: string
}

/**
 * Tells which sources used a workspace, and when. Pending usage counts. It is one statement, so it sees a flush that
 * runs at the same time as a whole or not at all.
 *
 * @param connection Where the statement runs. The role needs what `workspace-usage grant --reader` gives.
 * @throws {InvalidWorkspaceIdError} If the id is not a UUID; nothing is sent then.
 * @throws {NotMigratedError} If the views do not exist.
 * @throws {RowSecurityError} If row-level security may hide rows from the owner of the views.
 * @throws {StandbyError} On a standby.
 */
export async function explainUsage(connection: Connection, workspaceId: string): Promise<UsageExplanation> {
  const id = canonicalWorkspaceId(workspaceId)
  const { rows } = await execute(connection, explanationStatement(id))
  const lines = rows.map(({ line }): Line => JSON.parse(line))
  const { known, lastUsedAt, asOf } = lines[0]!
  return {
    workspaceId: id,
    exists: known,
    lastUsedAt: lastUsedAt === null ? null : parseIsoText(lastUsedAt),
    sources: lines.flatMap(({ source, sourceUsedAt, pending }) =>
      source === null ? [] : { source, lastUsedAt: parseIsoText(sourceUsedAt), pending },
    ),
    asOf: parseIsoText(asOf),
  }
}

function explanationStatement(id: string): Statement<ExplanationRow> {
  return {
    sql: `SELECT json_build_object(
        'known', a.workspace_id IS NOT NULL,
        'lastUsedAt', ${asIsoText('a.last_used_at')},
        'source', s.source,
        'sourceUsedAt', ${asIsoText('s.last_used_at')},
        'pending', s.pending,
        'asOf', ${asIsoText('statement_timestamp()')}
      )::text AS line
      FROM (SELECT $1::uuid AS id) asked
      LEFT JOIN workspace_activity a ON a.workspace_id = asked.id
      LEFT JOIN workspace_activity_by_source s ON s.workspace_id = asked.id
      ORDER BY s.last_used_at DESC, s.source COLLATE "C"`,
    parameters: [id],
  }
}
