import { type RawBuilder, sql } from 'kysely'
import { type Connection, execute, type Statement } from '../database/connection.ts'

/** What a privilege is on. */
export type Target =
  | { kind: 'schema' | 'every table' | 'every sequence' | 'every function'; schema: string }
  | { kind: 'table'; schema: string; name: string }
  /** Its arguments as PostgreSQL lists their types. */
  | { kind: 'function' | 'procedure'; schema: string; name: string; arguments: string }

/** The whole object, and not only some of its columns. */
export const WHOLE = 'whole'

/** What somebody may do with one target. It can be granted, revoked, and looked for. */
export interface Privilege {
  on: Target
  /** The actions, such as `SELECT`, on the whole object or on columns. */
  actions: Readonly<Record<string, typeof WHOLE | readonly string[]>>
  /** Whether a revoke leaves it, because the role may need it for something else. */
  stays?: boolean
}

/** The text between GRANT or REVOKE and the role. */
export function privilegeText({ on, actions }: Privilege): RawBuilder<unknown> {
  const parts = Object.entries(actions).map(([action, columns]) =>
    columns === WHOLE ? action : `${action} (${columns.join(', ')})`,
  )
  return sql`${sql.raw(parts.join(', '))} ON ${targetText(on)}`
}

function targetText(on: Target): RawBuilder<unknown> {
  switch (on.kind) {
    case 'schema':
      return sql`SCHEMA ${sql.id(on.schema)}`
    case 'table':
      return sql`${sql.id(on.schema, on.name)}`
    case 'function':
      return sql`FUNCTION ${sql.id(on.schema, on.name)}(${sql.raw(on.arguments)})`
    case 'procedure':
      return sql`PROCEDURE ${sql.id(on.schema, on.name)}(${sql.raw(on.arguments)})`
    case 'every table':
      return sql`ALL TABLES IN SCHEMA ${sql.id(on.schema)}`
    case 'every sequence':
      return sql`ALL SEQUENCES IN SCHEMA ${sql.id(on.schema)}`
    case 'every function':
      return sql`ALL FUNCTIONS IN SCHEMA ${sql.id(on.schema)}`
  }
}

/** One action on one object or column, and whether a role may do it. */
export interface HeldPrivilege {
  /** The object as PostgreSQL names it, with its kind, such as `table pending_usage`. */
  object: string
  action: string
  /** Null if it is about the whole object. */
  column: string | null
  held: boolean
  /** Which of the privileges that were asked for it belongs to. */
  of: Privilege
}

interface HeldRow extends Omit<HeldPrivilege, 'of'> {
  place: number | string
}

/**
 * Tells which privileges a role has, by itself, through PUBLIC, or through another role. What does not exist is left out.
 *
 * @param role As in `pg_roles`. It must exist.
 */
export async function heldPrivileges(
  connection: Connection,
  role: string,
  privileges: readonly Privilege[],
): Promise<HeldPrivilege[]> {
  const wanted = privileges.flatMap((privilege, place) =>
    Object.entries(privilege.actions).flatMap(([action, columns]) =>
      (columns === WHOLE ? [null] : columns).map(column => ({ place, ...privilege.on, action, column })),
    ),
  )
  const statement: Statement<HeldRow> = { sql: HELD, parameters: [role, JSON.stringify(wanted)] }
  const { rows } = await execute(connection, statement)
  return rows.map(({ place, ...row }) => ({ ...row, of: privileges[Number(place)]! }))
}

// The daily partitions of pg-boss's statistics are left out, because they are used through their parent.
const HELD = `
  WITH wanted AS (
    SELECT w.*, r.oid AS role, n.oid AS namespace
    FROM json_to_recordset($2::json) AS w (
      place int, kind text, schema text, name text, arguments text, action text, "column" text
    )
    JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
    JOIN pg_catalog.pg_roles r ON r.rolname = $1
  )
  SELECT place, 'schema ' || pg_catalog.quote_ident(schema) AS object, action, "column",
    has_schema_privilege(role, namespace, action) AS held
  FROM wanted WHERE kind = 'schema'
  UNION ALL
  SELECT place, CASE c.relkind WHEN 'v' THEN 'view ' ELSE 'table ' END || c.oid::regclass, action, "column",
    CASE WHEN a.attnum IS NULL THEN has_table_privilege(role, c.oid, action)
      ELSE has_column_privilege(role, c.oid, a.attnum, action) END
  FROM wanted
  JOIN pg_catalog.pg_class c ON c.relnamespace = namespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = "column" AND NOT a.attisdropped
  WHERE kind = 'table' AND c.relname = name
    OR kind = 'every table' AND NOT (c.relispartition AND c.relname LIKE 'queue\\_stats\\_%')
  UNION ALL
  SELECT place, 'sequence ' || c.oid::regclass, action, "column", has_sequence_privilege(role, c.oid, action)
  FROM wanted JOIN pg_catalog.pg_class c ON c.relnamespace = namespace AND c.relkind = 'S'
  WHERE kind = 'every sequence'
  UNION ALL
  SELECT place, CASE p.prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END || p.oid::regprocedure, action, "column", has_function_privilege(role, p.oid, action)
  FROM wanted JOIN pg_catalog.pg_proc p ON p.pronamespace = namespace
  WHERE kind IN ('function', 'procedure') AND p.proname = name AND pg_catalog.oidvectortypes(p.proargtypes) = arguments
    OR kind = 'every function' AND p.prokind IN ('f', 'w', 'a')
  ORDER BY place, object, action`
