import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'

/** What is called `workspaces` in the schema of this package. */
export interface PresentWorkspaces {
  oid: string
  kind: string
  comment: string | null
}

const FORMER = 'workspaces_former'

/**
 * Puts something else in the place of `workspaces`. The views that read it read the other then. Its owner is the same, and
 * roles have the same rights on it.
 *
 * @param create Creates the other. It must have the same columns, perhaps more, of the same types.
 */
export async function replaceWorkspaces(
  transaction: Connection,
  schema: string,
  { oid, kind }: PresentWorkspaces,
  create: () => Promise<void>,
): Promise<void> {
  // The text names `workspaces`, so it is read before that is renamed.
  const views = await viewsOf(transaction, oid)
  const grants = await grantsOn(transaction, oid)
  await dropForeignKeys(transaction, oid)
  const what = sql.raw(kind === 'v' ? 'VIEW' : 'TABLE')
  await execute(
    transaction,
    compile(sql`ALTER ${what} ${sql.id(schema, 'workspaces')} RENAME TO ${sql.id(FORMER)}`),
  )
  await create()
  await keepOwner(transaction, schema, oid)
  for (const { schema, name, definition, options } of views) {
    const settings = options === null ? sql`` : sql`WITH (${sql.raw(options)})`
    await execute(
      transaction,
      compile(sql`CREATE OR REPLACE VIEW ${sql.id(schema, name)} ${settings} AS ${sql.raw(definition)}`),
    )
  }
  for (const { role, action, column } of grants) {
    const columns = column === null ? sql`` : sql`(${sql.id(column)})`
    const to = role === null ? sql`PUBLIC` : sql.id(role)
    await execute(
      transaction,
      compile(sql`GRANT ${sql.raw(action)} ${columns} ON ${sql.id(schema, 'workspaces')} TO ${to}`),
    )
  }
  await execute(transaction, compile(sql`DROP ${what} ${sql.id(schema, FORMER)}`))
}

/** The owner of the views that read it has rights on it by being its owner too. */
async function keepOwner(transaction: Connection, schema: string, former: string): Promise<void> {
  const { rows } = await execute(
    transaction,
    compile(sql<{ owner: string; same: boolean }>`
      SELECT pg_get_userbyid(relowner)::text AS owner, pg_get_userbyid(relowner) = current_user AS same
      FROM pg_class WHERE oid = ${former}::oid`),
  )
  const { owner, same } = rows[0]!
  if (same) return
  await execute(
    transaction,
    compile(sql`ALTER VIEW ${sql.id(schema, 'workspaces')} OWNER TO ${sql.id(owner)}`),
  )
}

interface ViewRow {
  schema: string
  name: string
  definition: string
  options: string | null
}

async function viewsOf(connection: Connection, oid: string): Promise<ViewRow[]> {
  const { rows } = await execute(
    connection,
    compile(sql<ViewRow>`
      SELECT DISTINCT n.nspname::text AS schema, c.relname::text AS name, rtrim(pg_get_viewdef(c.oid), ';') AS definition,
        array_to_string(c.reloptions, ', ') AS options
      FROM pg_depend d
      JOIN pg_rewrite r ON r.oid = d.objid
      JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'v' AND c.oid <> d.refobjid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ${oid}::oid
      ORDER BY 1, 2`),
  )
  return rows
}

interface GrantRow {
  /** Null for everybody. */
  role: string | null
  action: string
  column: string | null
}

async function grantsOn(connection: Connection, oid: string): Promise<GrantRow[]> {
  const { rows } = await execute(
    connection,
    compile(sql<GrantRow>`
      SELECT r.rolname::text AS role, g.privilege_type AS action, g.attname::text AS column
      FROM (
        SELECT c.relowner, a.grantee, a.privilege_type, NULL::name AS attname
        FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE c.oid = ${oid}::oid
        UNION ALL
        SELECT c.relowner, a.grantee, a.privilege_type, t.attname
        -- A view has no system columns, two of which workers may read of a table.
        FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid AND NOT t.attisdropped AND t.attnum > 0
        CROSS JOIN LATERAL aclexplode(t.attacl) a WHERE c.oid = ${oid}::oid
      ) g
      LEFT JOIN pg_roles r ON r.oid = g.grantee
      WHERE g.grantee <> g.relowner ORDER BY 1, 2, 3`),
  )
  return rows
}

/** Those of our own tables. Of others PostgreSQL says that they are in the way. */
async function dropForeignKeys(connection: Connection, oid: string): Promise<void> {
  const { rows } = await execute(
    connection,
    compile(sql<{ schema: string; name: string; constraint: string }>`
      SELECT n.nspname::text AS schema, c.relname::text AS name, k.conname::text AS constraint
      FROM pg_constraint k
      JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE k.contype = 'f' AND k.confrelid = ${oid}::oid AND k.conparentid = 0 AND (
        c.oid = to_regclass('workspace_usage')
        OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass('workspace_usage'))
      )`),
  )
  for (const { schema, name, constraint } of rows) {
    await execute(
      connection,
      compile(sql`ALTER TABLE ${sql.id(schema, name)} DROP CONSTRAINT ${sql.id(constraint)}`),
    )
  }
}
