import { type Connection, execute } from '../database/connection.ts'
import { WorkspacesTableError } from '../errors.ts'
import type { WorkspacesTable } from './workspaces-table.ts'

/** A right that the owner of a view lacks. */
interface Missing {
  relation: string
  action: string
  /** The columns as SQL writes them. */
  columns: string
}

/**
 * Checks that the owner of each view may read and update what is below it. PostgreSQL asks whoever uses a view for
 * rights on the view, and its owner for rights on the table. So a worker needs nothing on the table.
 *
 * @throws {WorkspacesTableError} If a right is missing. It names the GRANT.
 */
export async function assertViewsReach(connection: Connection, table: WorkspacesTable): Promise<void> {
  const { views, oid, lastUsed } = table
  // A view that reads as its caller has no rights of its own. The first one would need those of each worker.
  let role: string | null = null
  for (const [place, view] of views.entries()) {
    role = view.invoker ? role : view.owner
    if (role === null) continue
    const below = views[place + 1]
    const updated = below === undefined ? (lastUsed?.number ?? null) : below.columns.last_used_at
    const { rows } = await execute<Missing>(connection, {
      sql: MISSING,
      parameters: [role, view.oid, below?.oid ?? oid, updated],
    })
    if (rows.length === 0) continue
    const relation = rows[0]!.relation
    const actions = rows
      .filter(row => row.relation === relation)
      .map(({ action, columns }) => `${action} (${columns})`)
      .join(', ')
    throw new WorkspacesTableError(
      null,
      `lets the role ${JSON.stringify(role)}, which owns the view "${view.name}", not ${actions}` +
        (relation === table.text ? '' : ` on ${relation}`),
      `the right: GRANT ${actions} ON ${relation} TO ${role}`,
      table.text,
    )
  }
}

/** Of the columns that a view uses, wherever it does. */
const MISSING = `
  WITH wanted AS (
    SELECT DISTINCT d.refobjid AS relation, d.refobjsubid::int2 AS number, 'SELECT' AS action
    FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
      AND d.refclassid = 'pg_catalog.pg_class'::regclass
    WHERE r.ev_class = $2::oid AND d.refobjid <> $2::oid AND d.refobjsubid > 0
    UNION
    SELECT $3::oid, $4::int2, 'UPDATE' WHERE $4::int2 IS NOT NULL
  )
  SELECT
    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS relation, action,
    pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) AS columns
  FROM wanted w
  JOIN pg_catalog.pg_class c ON c.oid = w.relation
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = w.relation AND a.attnum = w.number
  JOIN pg_catalog.pg_roles role ON role.rolname = $1
  WHERE NOT has_column_privilege(role.oid, w.relation, w.number, action)
  GROUP BY c.oid, n.nspname, c.relname, action
  ORDER BY c.oid <> $3::oid, 1, action`
