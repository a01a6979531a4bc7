import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { WorkspacesTableError } from '../errors.ts'
import { refusedUpdate } from './update-probe.ts'

interface WorkspacesColumns {
  kind: string | null
  persistence: string
  id_type: string | null
  encoding: string
  id_unique: boolean
  last_used_at_type: string | null
  generated: boolean
  rules: string[]
  partition_key: boolean
  inherited: boolean
  reader: string
  selects: boolean
  references: boolean
}

/**
 * Checks that an existing `workspaces` has what the flush needs. This happens before anything is created. The table is
 * the one that `search_path` finds. Does nothing if there is none.
 *
 * @throws {WorkspacesTableError} If something is wrong. It names the first such thing.
 */
export async function assertWorkspacesAdoptable(connection: Connection): Promise<void> {
  const { rows } = await execute(connection, compile(sql<WorkspacesColumns>`${FACTS}`))
  const found = rows[0]
  if (!found) return
  assertKind(found)
  assertColumns(found)
  await assertUpdatable(connection, found)
  assertPrivileges(found)
}

// The roots of a partition by last_used_at: its rows can't leave it, so an update would fail.
const FACTS = sql`
  WITH RECURSIVE ancestor (oid) AS (
    SELECT inhparent FROM pg_inherits WHERE inhrelid = to_regclass('workspaces')
    UNION SELECT i.inhparent FROM pg_inherits i JOIN ancestor ON i.inhrelid = ancestor.oid
  )
  SELECT
    relation.relkind::text AS kind,
    relation.relpersistence::text AS persistence,
    format_type(id.atttypid, id.atttypmod) AS id_type,
    current_setting('server_encoding') AS encoding,
    EXISTS (
      SELECT FROM pg_index i
      WHERE i.indrelid = relation.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
        AND i.indnkeyatts = 1 AND i.indkey[0] = id.attnum AND i.indpred IS NULL
    ) AS id_unique,
    format_type(used.atttypid, NULL) AS last_used_at_type,
    coalesce(used.attgenerated <> '', false) AS generated,
    ARRAY (
      SELECT rulename::text FROM pg_rewrite
      WHERE ev_class = relation.oid AND ev_type = '2' AND ev_enabled IN ('O', 'A') ORDER BY rulename
    ) AS rules,
    EXISTS (
      SELECT FROM ancestor JOIN pg_partitioned_table p ON p.partrelid = ancestor.oid
      WHERE pg_get_partkeydef(p.partrelid) ~ '\\mlast_used_at\\M'
    ) AS partition_key,
    relation.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = relation.oid) AS inherited,
    reader.role AS reader,
    id.attnum IS NULL OR used.attnum IS NULL OR (
      has_column_privilege(reader.role, relation.oid, id.attnum, 'SELECT')
      AND has_column_privilege(reader.role, relation.oid, used.attnum, 'SELECT')
    ) AS selects,
    id.attnum IS NULL OR to_regclass('workspace_usage') IS NOT NULL
      OR has_column_privilege(relation.oid, id.attnum, 'REFERENCES') AS references
  FROM (SELECT to_regclass('workspaces') AS oid) named
  JOIN pg_class relation ON relation.oid = named.oid
  LEFT JOIN pg_attribute id
    ON id.attrelid = relation.oid AND id.attname = 'id' AND NOT id.attisdropped
  LEFT JOIN pg_attribute used
    ON used.attrelid = relation.oid AND used.attname = 'last_used_at' AND NOT used.attisdropped
  CROSS JOIN LATERAL (
    SELECT coalesce(
      (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass('workspace_activity')), current_user
    )::text AS role
  ) reader`

function assertKind({ kind, persistence, partition_key: partitionKey }: WorkspacesColumns): void {
  if (kind === 'f') {
    throw new WorkspacesTableError(null, 'is a foreign table, and no foreign key can refer to it', 'a table')
  }
  if (kind !== 'r' && kind !== 'p') {
    throw new WorkspacesTableError(null, 'is not a table', 'a table')
  }
  // The foreign key of workspace_usage can't refer to an UNLOGGED or temporary table.
  if (persistence !== 'p') {
    throw new WorkspacesTableError(null, 'is UNLOGGED or temporary', 'a table that survives a crash')
  }
  if (partitionKey) {
    const found = 'is a partition by last_used_at, so a flush would move rows out of it'
    throw new WorkspacesTableError(null, found, 'a table whose rows stay in it when last_used_at changes')
  }
}

function assertColumns(found: WorkspacesColumns): void {
  // A varchar has its length behind it. The others are of other types: citext and domains, say, compare in ways of
  // their own.
  if (!/^(uuid|bigint|integer|text|character varying(\(\d+\))?)$/.test(found.id_type ?? '')) {
    const expected = 'type uuid, bigint, integer, text or varchar, with a unique index of its own'
    throw new WorkspacesTableError('id', describe(found.id_type), expected)
  }
  if (/^(text|character)/.test(found.id_type!) && found.encoding !== 'UTF8') {
    const where = `has type ${found.id_type} in a database with the encoding ${found.encoding}, which can't hold every id`
    throw new WorkspacesTableError('id', where, 'a database with the encoding UTF8')
  }
  if (!found.id_unique) {
    throw new WorkspacesTableError('id', 'has no unique index', 'a primary key or unique index on "id" alone')
  }
  if (found.last_used_at_type !== 'timestamp with time zone') {
    throw new WorkspacesTableError('last_used_at', describe(found.last_used_at_type), 'type timestamptz')
  }
  if (found.generated) {
    throw new WorkspacesTableError('last_used_at', 'is generated', 'a column that an UPDATE can set')
  }
}

async function assertUpdatable(
  connection: Connection,
  { rules, inherited }: WorkspacesColumns,
): Promise<void> {
  if (rules.length > 0) {
    const found = `has a rule ON UPDATE (${rules.join(', ')}), which PostgreSQL does not support in a flush`
    throw new WorkspacesTableError(null, found, 'a trigger in place of the rule')
  }
  if (inherited && (await childrenHoldRows(connection))) {
    const found = 'has children (INHERITS) that hold rows, to which no foreign key can refer'
    throw new WorkspacesTableError(null, found, 'all rows in the table itself, or a partitioned table')
  }
  const refused = await refusedUpdate(connection)
  // A publication that does not fit is a warning.
  if (refused !== null && !refused.published) {
    const found = `can't be flushed: PostgreSQL refuses the update (${refused.sqlstate}: ${refused.message})`
    throw new WorkspacesTableError(null, found, 'a table that an UPDATE can change')
  }
}

async function childrenHoldRows(connection: Connection): Promise<boolean> {
  // Through the parent, the rights on the parent are enough.
  const { rows } = await execute(
    connection,
    compile(sql`SELECT FROM workspaces WHERE tableoid <> 'workspaces'::regclass LIMIT 1`),
  )
  return rows.length > 0
}

function assertPrivileges({ reader, selects, references }: WorkspacesColumns): void {
  if (!references) {
    const found = `may not be referenced by the role ${JSON.stringify(reader)}`
    throw new WorkspacesTableError('id', found, 'the right to refer to it: GRANT REFERENCES (id)')
  }
  if (!selects) {
    const found = `can't be read by the role ${JSON.stringify(reader)}, which owns the views`
    throw new WorkspacesTableError(null, found, 'the right to read it: GRANT SELECT (id, last_used_at)')
  }
}

function describe(type: string | null): string {
  return type === null ? 'is missing' : `has type ${type}`
}
