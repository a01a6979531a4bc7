import { type Connection, execute, type Statement } from '../database/connection.ts'
import { isDistributed } from '../database/distributed.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'

/* The table stopped_workspaces: what reapers have stopped, and for which last use. */

/** The most rows of deleted workspaces that one run removes. */
const FORGET_AT_MOST = 10_000

/** Tells for which last use each of these workspaces was stopped. One that was not stopped is left out. */
export async function stoppedFor(
  connection: Connection,
  workspaceIds: readonly string[],
): Promise<Map<string, Date>> {
  // PostgreSQL knows the type of the ids from the column.
  const statement: Statement<{ stopped: string | null }> = {
    sql: `SELECT json_agg(json_build_array(workspace_id::text, ${asIsoText('idle_since')}))::text AS stopped
      FROM stopped_workspaces WHERE workspace_id = ANY ($1)`,
    parameters: [workspaceIds],
  }
  const { rows } = await execute(connection, statement)
  const stopped: [string, string][] = JSON.parse(rows[0]!.stopped ?? '[]')
  return new Map(stopped.map(([id, since]) => [id, parseIsoText(since)]))
}

/**
 * Notes a stop, in the transaction of the stop. A workspace that `stop` has deleted is not noted.
 *
 * @param idleSince As `asIsoText` writes it.
 */
export async function noteStopped(
  connection: Connection,
  workspaceId: string,
  idleSince: string,
): Promise<void> {
  await execute(connection, {
    sql: `INSERT INTO stopped_workspaces (workspace_id, idle_since)
      SELECT id, $2::timestamptz FROM workspaces WHERE id = $1
      ON CONFLICT (workspace_id) DO UPDATE
      SET idle_since = excluded.idle_since, stopped_at = excluded.stopped_at`,
    parameters: [workspaceId, idleSince],
  })
}

/** Removes rows of workspaces that were deleted. */
export async function forgetDeleted(connection: Connection): Promise<void> {
  // Of several shards no rows can be locked to be skipped. Nobody else locks these.
  if (await isDistributed(connection)) {
    await execute(connection, {
      sql: `DELETE FROM stopped_workspaces s
        WHERE NOT EXISTS (SELECT 1 FROM workspaces w WHERE w.id = s.workspace_id)`,
      parameters: [],
    })
    return
  }
  await execute(connection, {
    sql: `DELETE FROM stopped_workspaces WHERE workspace_id = ANY (ARRAY (
        SELECT s.workspace_id FROM stopped_workspaces s
        WHERE NOT EXISTS (SELECT FROM workspaces w WHERE w.id = s.workspace_id)
        LIMIT ${FORGET_AT_MOST} FOR UPDATE SKIP LOCKED
      ))`,
    parameters: [],
  })
}
