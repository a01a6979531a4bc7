import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { WorkspacesTableError } from '../errors.ts'

interface WorkspacesColumns {
  kind: string | null
  persistence: string
  id_type: string | null
  id_unique: boolean
  last_used_at_type: string | null
}

/**
 * Checks that an existing `workspaces` has what the flush needs. This happens before anything is created. The table is
 * the one that `search_path` finds. Does nothing if there is none.
 *
 * @throws {WorkspacesTableError} If something is wrong. It names the first such thing.
 */
export async function assertWorkspacesAdoptable(connection: Connection): Promise<void> {
  const { rows } = await execute(
    connection,
    compile(sql<WorkspacesColumns>`
      SELECT
        relation.relkind::text AS kind,
        relation.relpersistence::text AS persistence,
        format_type(id.atttypid, id.atttypmod) AS id_type,
        EXISTS (
          SELECT FROM pg_index i
          WHERE i.indrelid = relation.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
            AND i.indnkeyatts = 1 AND i.indkey[0] = id.attnum AND i.indpred IS NULL
        ) AS id_unique,
        format_type(used.atttypid, NULL) AS last_used_at_type
      FROM (SELECT to_regclass('workspaces') AS oid) named
      JOIN pg_class relation ON relation.oid = named.oid
      LEFT JOIN pg_attribute id
        ON id.attrelid = relation.oid AND id.attname = 'id' AND NOT id.attisdropped
      LEFT JOIN pg_attribute used
        ON used.attrelid = relation.oid AND used.attname = 'last_used_at' AND NOT used.attisdropped`),
  )
  const found = rows[0]
  if (!found) return
  if (found.kind !== 'r' && found.kind !== 'p') {
    throw new WorkspacesTableError(null, 'is not a table', 'a table')
  }
  // The foreign key of workspace_usage can't refer to an UNLOGGED or temporary table.
  if (found.persistence !== 'p') {
    throw new WorkspacesTableError(null, 'is UNLOGGED or temporary', 'a table that survives a crash')
  }
  if (found.id_type !== 'uuid') {
    throw new WorkspacesTableError('id', describe(found.id_type), 'type uuid with a unique index of its own')
  }
  if (!found.id_unique) {
    throw new WorkspacesTableError('id', 'has no unique index', 'a primary key or unique index on "id" alone')
  }
  if (found.last_used_at_type !== 'timestamp with time zone') {
    throw new WorkspacesTableError('last_used_at', describe(found.last_used_at_type), 'type timestamptz')
  }
}

function describe(type: string | null): string {
  return type === null ? 'is missing' : `has type ${type}`
}
