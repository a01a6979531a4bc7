import type { WorkspaceIdType } from '../workspace-id.ts'
import { type Connection, execute, type Statement } from './connection.ts'

/**
 * SQL of the type of `pending_usage.workspace_id`, which is that of `workspaces.id`: a {@link WorkspaceIdType}. A
 * `varchar` counts as `text`. The names are written out, because quote_all_identifiers puts quotes around some.
 */
export const WORKSPACE_ID_TYPE = `(
    SELECT CASE a.atttypid
      WHEN 'pg_catalog.uuid'::pg_catalog.regtype THEN 'uuid'
      WHEN 'pg_catalog.int8'::pg_catalog.regtype THEN 'bigint'
      WHEN 'pg_catalog.int4'::pg_catalog.regtype THEN 'integer'
      ELSE 'text'
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
