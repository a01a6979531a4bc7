import type { WorkspaceIdType } from '../workspace-id.ts'
import { type Connection, execute, type Statement } from './connection.ts'

/**
 * SQL of the type of `pending_usage.workspace_id`, which is that of `workspaces.id`: a {@link WorkspaceIdType}. A
 * `varchar` counts as `text`.
 */
export const WORKSPACE_ID_TYPE = `(
    SELECT CASE a.atttypid
      WHEN 'pg_catalog.varchar'::pg_catalog.regtype THEN 'text'
      ELSE pg_catalog.format_type(a.atttypid, NULL)
    END
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = 'pending_usage'::pg_catalog.regclass AND a.attname = 'workspace_id'
  )`

/** Asks for that type. */
export const workspaceIdTypeStatement: Statement<{ type: WorkspaceIdType }> = {
  sql: `SELECT ${WORKSPACE_ID_TYPE}::text AS type`,
  parameters: [],
}

/**
 * Reads the type of the workspace ids of this database. It is chosen once, by the first migration.
 *
 * @param connection Any role may ask that finds `pending_usage`.
 * @throws {NotMigratedError} If there is no `pending_usage`.
 */
export async function workspaceIdType(connection: Connection): Promise<WorkspaceIdType> {
  const { rows } = await execute(connection, workspaceIdTypeStatement)
  return rows[0]!.type
}
