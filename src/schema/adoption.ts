import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { WorkspacesTableError } from '../errors.ts'
import { anotherType, isSameType } from './id-type.ts'
import { refusedUpdate } from './update-probe.ts'
import { assertViewsReach } from './view-rights.ts'
import { type WorkspacesTable, workspacesTable } from './workspaces-table.ts'

interface Facts {
  persistence: string
  id_type: string | null
  encoding: string
  id_unique: boolean
  last_used_at_type: string | null
  created_at_type: string | null
  generated: boolean
  /** Whether PostgreSQL can update it through the views. */
  updatable: boolean
  rules: string[]
  partition_key: boolean
  inherited: boolean
  reader: string
  selects: boolean
  references: boolean
  /** The type of the ids that our own tables hold. Null if there are none yet. */
  our_type: string | null
}

/**
 * Checks that an existing `workspaces` has what the flush needs. This happens before anything is created. The table is
 * the one that `search_path` finds, or the one below a view of that name. Does nothing if there is none.
 *
 * @throws {WorkspacesTableError} If something is wrong. It names the first such thing.
 */
export async function assertWorkspacesAdoptable(connection: Connection): Promise<void> {
  const table = await workspacesTable(connection)
  if (table === null) return
  assertKind(table)
  const { rows } = await execute(connection, compile(facts(table)))
  const found = rows[0]!
  assertStorage(table, found)
  assertColumns(table, found)
  assertRules(table, found)
  if (found.inherited && (await childrenHoldRows(connection, table))) {
    const what = 'has children (INHERITS) that hold rows, to which no foreign key can refer'
    throw refusal(table, null, what, 'all rows in the table itself, or a partitioned table')
  }
  if (table.views.length > 0) await assertViewsReach(connection, table)
  // It comes last, because it ends a transaction of the caller if a publication is in the way.
  await assertUpdatable(connection, table)
  assertPrivileges(table, found)
}

const KINDS: Readonly<Record<string, string>> = {
  v: 'is a view that shows more than the rows of one table',
  m: 'is a materialized view',
  S: 'is a sequence',
  c: 'is a type',
}

function assertKind(table: WorkspacesTable): void {
  const { kind, views } = table
  if (kind === 'f') {
    throw refusal(table, null, 'is a foreign table, and no foreign key can refer to it', 'a table')
  }
  if (kind !== 'r' && kind !== 'p') {
    throw refusal(
      table,
      null,
      views.length === 0 ? 'is not a table' : (KINDS[kind] ?? 'is not a table'),
      'a table',
    )
  }
}

// The roots of a partition by last_used_at: its rows can't leave it, so an update would fail.
const facts = ({ oid, id, lastUsed, created, views }: WorkspacesTable) => sql<Facts>`
  WITH RECURSIVE ancestor (oid) AS (
    SELECT inhparent FROM pg_inherits WHERE inhrelid = ${oid}::oid
    UNION SELECT i.inhparent FROM pg_inherits i JOIN ancestor ON i.inhrelid = ancestor.oid
  )
  SELECT
    relation.relpersistence::text AS persistence,
    format_type(id.atttypid, id.atttypmod) AS id_type,
    current_setting('server_encoding') AS encoding,
    EXISTS (
      SELECT FROM pg_index i
      WHERE i.indrelid = relation.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
        AND i.indnkeyatts = 1 AND i.indkey[0] = id.attnum AND i.indpred IS NULL
    ) AS id_unique,
    format_type(used.atttypid, NULL) AS last_used_at_type,
    format_type(created.atttypid, NULL) AS created_at_type,
    coalesce(used.attgenerated <> '', false) AS generated,
    ${views.length === 0} OR pg_column_is_updatable(named.oid, 2::int2, false) AS updatable,
    ARRAY (
      SELECT rulename::text FROM pg_rewrite
      WHERE ev_class = relation.oid AND ev_type = '2' AND ev_enabled IN ('O', 'A') ORDER BY rulename
    ) AS rules,
    EXISTS (
      SELECT FROM ancestor JOIN pg_partitioned_table p ON p.partrelid = ancestor.oid
      JOIN pg_attribute a ON a.attrelid = ancestor.oid AND a.attname = used.attname
      -- PostgreSQL notes a column of the key, or of an expression in it, as a part of the table that can't be dropped.
      WHERE a.attnum = ANY (p.partattrs::int2[]) OR EXISTS (
        SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = ancestor.oid AND d.objsubid = a.attnum
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ancestor.oid AND d.refobjsubid = 0
          AND d.deptype = 'i'
      )
    ) AS partition_key,
    relation.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = relation.oid) AS inherited,
    reader.role AS reader,
    coalesce((
      SELECT bool_and(has_column_privilege(reader.role, attrelid, attnum, 'SELECT')) FROM pg_attribute
      WHERE attrelid = named.oid AND attname IN ('id', 'last_used_at')
    ), true) AS selects,
    ${views.length > 0} OR to_regclass('workspace_usage') IS NOT NULL
      OR has_column_privilege(relation.oid, id.attnum, 'REFERENCES') AS references,
    (
      SELECT format_type(atttypid, NULL) FROM pg_attribute
      WHERE attrelid = to_regclass('pending_usage') AND attname = 'workspace_id'
    ) AS our_type
  FROM (SELECT to_regclass('workspaces') AS oid) named
  JOIN pg_class relation ON relation.oid = ${oid}::oid
  LEFT JOIN pg_attribute id ON id.attrelid = relation.oid AND id.attnum = ${id?.number ?? null}::int2
  LEFT JOIN pg_attribute used ON used.attrelid = relation.oid AND used.attnum = ${lastUsed?.number ?? null}::int2
  LEFT JOIN pg_attribute created ON created.attrelid = relation.oid AND created.attnum = ${created?.number ?? null}::int2
  CROSS JOIN LATERAL (
    SELECT coalesce(
      (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass('workspace_activity')), current_user
    )::text AS role
  ) reader`

function assertStorage(
  table: WorkspacesTable,
  { persistence, partition_key: partitionKey, updatable }: Facts,
): void {
  if (!updatable) {
    const found = 'is shown by a view that PostgreSQL can not update by itself'
    throw refusal(table, null, found, 'a table, or a view of one table, without joins, groups and triggers')
  }
  // The foreign key of workspace_usage can't refer to an UNLOGGED or temporary table.
  if (persistence !== 'p') {
    throw refusal(table, null, 'is UNLOGGED or temporary', 'a table that survives a crash')
  }
  if (partitionKey) {
    const { name } = table.lastUsed!
    const found = `is a partition by ${name}, so a flush would move rows out of it`
    throw refusal(table, null, found, `a table whose rows stay in it when ${name} changes`)
  }
}

function assertColumns(table: WorkspacesTable, found: Facts): void {
  const id = table.id?.name ?? 'id'
  const lastUsed = table.lastUsed?.name ?? 'last_used_at'
  // A varchar has its length behind it. The others are of other types: citext and domains, say, compare in ways of
  // their own.
  if (!/^(uuid|bigint|integer|text|character varying(\(\d+\))?)$/.test(found.id_type ?? '')) {
    const expected = 'type uuid, bigint, integer, text or varchar, with a unique index of its own'
    throw refusal(table, id, describe(found.id_type), expected)
  }
  if (/^(text|character)/.test(found.id_type!) && found.encoding !== 'UTF8') {
    const where = `has type ${found.id_type} in a database with the encoding ${found.encoding}, which can't hold every id`
    throw refusal(table, id, where, 'a database with the encoding UTF8')
  }
  if (!found.id_unique) {
    throw refusal(table, id, 'has no unique index', `a primary key or unique index on "${id}" alone`)
  }
  if (found.last_used_at_type !== 'timestamp with time zone') {
    throw refusal(table, lastUsed, describe(found.last_used_at_type), 'type timestamptz')
  }
  if (found.generated) {
    throw refusal(table, lastUsed, 'is generated', 'a column that an UPDATE can set')
  }
  const type = found.created_at_type
  // A table of this name may have a created_at of any type. Through a view somebody has named the column.
  if (table.adopted && type !== null && type !== 'timestamp with time zone') {
    throw refusal(table, table.created!.name, describe(type), 'type timestamptz')
  }
  if (found.our_type !== null && !isSameType(found.our_type, found.id_type!)) {
    throw anotherType(table.adopted ? table.text : null, id, found.id_type!, found.our_type)
  }
}

function assertRules(table: WorkspacesTable, { rules }: Facts): void {
  if (rules.length === 0) return
  const found = `has a rule ON UPDATE (${rules.join(', ')}), which PostgreSQL does not support in a flush`
  throw refusal(table, null, found, 'a trigger in place of the rule')
}

async function assertUpdatable(connection: Connection, table: WorkspacesTable): Promise<void> {
  const refused = await refusedUpdate(connection)
  // A publication that does not fit is a warning.
  if (refused !== null && !refused.published) {
    const found = `can't be flushed: PostgreSQL refuses the update (${refused.sqlstate}: ${refused.message})`
    throw refusal(table, null, found, 'a table that an UPDATE can change')
  }
}

async function childrenHoldRows(
  connection: Connection,
  { schema, name, oid }: WorkspacesTable,
): Promise<boolean> {
  // Through the parent, the rights on the parent are enough.
  const { rows } = await execute(
    connection,
    compile(sql`SELECT FROM ${sql.id(schema, name)} WHERE tableoid <> ${oid}::oid LIMIT 1`),
  )
  return rows.length > 0
}

function assertPrivileges(table: WorkspacesTable, { reader, selects, references }: Facts): void {
  if (!references) {
    const found = `may not be referenced by the role ${JSON.stringify(reader)}`
    throw refusal(table, 'id', found, 'the right to refer to it: GRANT REFERENCES (id)')
  }
  if (!selects) {
    const found = `can't be read by the role ${JSON.stringify(reader)}, which owns the views`
    throw refusal(table, null, found, 'the right to read it: GRANT SELECT (id, last_used_at)')
  }
}

function describe(type: string | null): string {
  return type === null ? 'is missing' : `has type ${type}`
}

function refusal(
  { text, adopted }: WorkspacesTable,
  column: string | null,
  found: string,
  expected: string,
): WorkspacesTableError {
  return new WorkspacesTableError(column, found, expected, adopted ? text : null)
}
