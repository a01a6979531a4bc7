import { closestMatch } from 'leven'
import { type Connection, execute } from '../database/connection.ts'
import { WorkspacesTableError } from '../errors.ts'
import { type TableName, tableName } from './identifiers.ts'

/** A table of the host, as an operator has named it. */
export interface HostTable {
  oid: string
  schema: string
  name: string
  /** Schema and name as SQL writes them. */
  text: string
  /** The columns in their order, with the names of their types. */
  columns: ReadonlyMap<string, string>
}

interface HostRow {
  oid: string
  schema: string
  name: string
  text: string
  columns: string
  usable: boolean
  role: string
}

/**
 * Finds a table by its name. Without a schema, it is the first that `search_path` finds, beside the view that this
 * package has created.
 *
 * @param except The oid of that view. Null if there is none.
 * @throws {WorkspacesTableError} If there is no such table, with the nearest name; or if the role may not use its schema.
 */
export async function findHostTable(
  connection: Connection,
  text: string,
  except: string | null,
): Promise<HostTable> {
  const { schema, name } = tableName(text)
  const { rows } = await execute<HostRow>(connection, {
    sql: `SELECT c.oid::text AS oid, n.nspname::text AS schema, c.relname::text AS name,
        pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS text,
        (
          SELECT coalesce(json_agg(json_build_array(a.attname, format_type(a.atttypid, NULL)) ORDER BY a.attnum), '[]')
          FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        )::text AS columns,
        has_schema_privilege(n.oid, 'USAGE') AS usable, current_user::text AS role
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid IS DISTINCT FROM $3::oid
        AND (n.nspname = $2 OR $2::text IS NULL AND n.nspname = ANY (current_schemas(true)))
      ORDER BY pg_catalog.array_position(current_schemas(true), n.nspname) LIMIT 1`,
    parameters: [name, schema, except],
  })
  const row = rows[0]
  if (!row) throw await missing(connection, { schema, name }, except)
  if (!row.usable) {
    throw new WorkspacesTableError(
      null,
      `is in a schema that the role ${JSON.stringify(row.role)} may not use`,
      `the right: GRANT USAGE ON SCHEMA ${row.schema} TO ${row.role}`,
      row.text,
    )
  }
  return { ...row, columns: new Map(JSON.parse(row.columns) as [string, string][]) }
}

async function missing(
  connection: Connection,
  { schema, name }: TableName,
  except: string | null,
): Promise<WorkspacesTableError> {
  const { rows } = await execute<{ schema: string; name: string }>(connection, {
    sql: `SELECT n.nspname::text AS schema, c.relname::text AS name
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND c.oid IS DISTINCT FROM $1::oid
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgboss') AND n.nspname !~ '^pg_(toast|temp)'
      ORDER BY 1, 2`,
    parameters: [except],
  })
  const wanted = schema === null ? name : `${schema}.${name}`
  const inAnySchema = rows.filter(row => row.name === name)
  const near =
    inAnySchema[0] ?? nearest(wanted, rows, row => (schema === null ? row.name : `${row.schema}.${row.name}`))
  const hint = near === undefined ? '' : `; the nearest is ${near.schema}.${near.name}`
  const where = schema === null ? ' in a schema of search_path' : ''
  const what = `an existing table, spelled as in the database${hint}`
  return new WorkspacesTableError(null, `does not exist${where}`, what, wanted)
}

/** @throws {WorkspacesTableError} If the table has no such column, with the nearest name. */
export function assertColumn(table: HostTable, column: string): void {
  if (table.columns.has(column)) return
  const near = nearest(column, [...table.columns.keys()], name => name)
  const hint = near === undefined ? '' : `; the nearest is ${JSON.stringify(near)}`
  const expected = `a column of the table, spelled as in the database${hint}`
  throw new WorkspacesTableError(column, 'is missing', expected, table.text)
}

function nearest<Item>(
  wanted: string,
  items: readonly Item[],
  nameOf: (item: Item) => string,
): Item | undefined {
  const byName = new Map(items.map(item => [nameOf(item).toLowerCase(), item]))
  const maxDistance = Math.max(2, Math.floor(wanted.length / 3))
  const found = closestMatch(wanted.toLowerCase(), [...byName.keys()], { maxDistance })
  return found === undefined ? undefined : byName.get(found)
}
