import { type Connection, execute, type Statement } from '../database/connection.ts'
import { RowSecurityError } from '../errors.ts'
import { JOB_SCHEMA } from '../worker/queue.ts'

/** A table whose row security applies to a role. */
export interface RowSecurity {
  /** The name of the table, without its schema. */
  table: string
  /** The one that was asked for, or the owner of a view through which the table is read. */
  role: string
}

/** The tables that a flush reads and writes, beside those of pg-boss. A table that does not exist is left out. */
const FLUSHED_TABLES = [
  'workspaces',
  'workspace_usage',
  'workspace_usage_day',
  'pending_usage',
  'pending_usage_witness',
  'set_aside_usage',
  'refused_usage',
  'source_usage',
  'pending_usage_reset',
  'pending_usage_place',
]

/**
 * Finds the tables whose row security applies to a role. Row security hides rows without an error, so to a flush a
 * hidden workspace would look like a deleted one.
 *
 * PostgreSQL decides so itself: row security applies to everybody but superusers, roles with BYPASSRLS, and the owner.
 * A role that inherits the rights of the owner counts as the owner. FORCE ROW LEVEL SECURITY applies it to owners too.
 * BYPASSRLS is not inherited. The policies do not matter: `row_security = off` refuses a query even if they hide nothing.
 *
 * If `workspaces` is a view of an adopted table, it reads and updates that table with the rights of its owner. So row
 * security of that table has to be no matter to the owner, and is none to a worker.
 *
 * @param role As in `pg_roles`. Default: the current user. A role that does not exist finds nothing.
 * @param tables Names that `search_path` finds. Default: all that a flush needs, those of pg-boss included.
 */
export async function rowSecurity(
  connection: Connection,
  role: string | null = null,
  tables?: readonly string[],
): Promise<RowSecurity[]> {
  // This is plain text, because a worker and a flush by hand ask before they load anything else.
  const statement: Statement<RowSecurity> = {
    sql: `WITH RECURSIVE read (relation, role) AS (
        SELECT c.oid, r.oid
        FROM pg_catalog.pg_class c, pg_catalog.pg_roles r
        WHERE (
            c.oid IN (SELECT pg_catalog.to_regclass(pg_catalog.quote_ident(name)) FROM unnest($2::text[]) AS t (name))
            OR c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $3) AND c.relkind IN ('r', 'p')
          )
          AND r.rolname = coalesce($1::text, current_user::text)
        UNION
        SELECT d.refobjid,
          CASE WHEN coalesce(c.reloptions::text, '') ~ 'security_invoker=(true|on|yes|1)' THEN read.role ELSE c.relowner END
        FROM read
        JOIN pg_catalog.pg_class c ON c.oid = read.relation AND c.relkind = 'v'
        JOIN pg_catalog.pg_rewrite rule ON rule.ev_class = c.oid
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = rule.oid
          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> c.oid
      )
      SELECT c.relname::text AS "table", r.rolname::text AS role
      FROM read
      JOIN pg_catalog.pg_class c ON c.oid = read.relation
      JOIN pg_catalog.pg_roles r ON r.oid = read.role
      WHERE c.relrowsecurity
        AND NOT r.rolsuper
        AND NOT r.rolbypassrls
        AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'))
      ORDER BY c.relname <> 'workspaces', c.relname`,
    parameters: [role, tables ?? FLUSHED_TABLES, tables ? null : JOB_SCHEMA],
  }
  return (await execute(connection, statement)).rows
}

/**
 * Checks that row security hides no row from a role that flushes.
 *
 * @param role As in `pg_roles`. Default: the current user.
 * @throws {RowSecurityError} If row security of a table applies to the role. It names the first such table.
 */
export async function assertNoRowSecurity(connection: Connection, role?: string): Promise<void> {
  const [first] = await rowSecurity(connection, role)
  if (first) throw new RowSecurityError(first.table, first.role)
}

/** The tables that the views read. Through a view, a query has the rights of the owner of the view. */
const READ_TABLES = [
  'workspaces',
  'workspace_usage',
  'workspace_usage_day',
  'pending_usage',
  'set_aside_usage',
  'source_usage',
]

/**
 * Checks that row security hides no row from the views, and so from readers. Before the views exist, their owner will
 * be the current user.
 *
 * @throws {RowSecurityError} If row security of a table applies to the owner of the views. It names the first such table.
 */
export async function assertViewsSeeAllRows(connection: Connection): Promise<void> {
  const { rows } = await execute<{ owner: string | null }>(connection, {
    sql: `SELECT (
        SELECT pg_catalog.pg_get_userbyid(relowner)::text FROM pg_catalog.pg_class
        WHERE oid = pg_catalog.to_regclass('workspace_activity')
      ) AS owner`,
    parameters: [],
  })
  const [first] = await rowSecurity(connection, rows[0]!.owner, READ_TABLES)
  if (first) throw new RowSecurityError(first.table, first.role)
}
