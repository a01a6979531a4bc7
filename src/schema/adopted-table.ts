import { type Connection, execute } from '../database/connection.ts'
import { workspacesTable } from './workspaces-table.ts'

/** The host's table behind the name `workspaces`. */
export interface AdoptedTable {
  /** As SQL writes it, such as `app.sandboxes`. */
  table: string
  /** Whether it has another name, and `workspaces` is a view. */
  view: boolean
  idColumn: string
  lastUsedColumn: string
  /** Null if there is none. */
  createdColumn: string | null
  /** The condition of the view, as PostgreSQL writes it. Null if the view shows all rows. */
  where: string | null
}

/** Tells which table the flush writes. Null if there is none. */
export async function adoptedTable(connection: Connection): Promise<AdoptedTable | null> {
  const table = await workspacesTable(connection)
  if (table === null) return null
  const { rows } = await execute<{ definition: string | null }>(connection, {
    sql: "SELECT pg_catalog.pg_get_viewdef(pg_catalog.to_regclass('workspaces')) AS definition",
    parameters: [],
  })
  // An own view has one WHERE, on a line of its own.
  const [, where] = /\n\s*WHERE ([\s\S]*?);?\s*$/.exec(rows[0]?.definition ?? '') ?? []
  return {
    table: table.text,
    view: table.views.length > 0,
    idColumn: table.id?.name ?? 'id',
    lastUsedColumn: table.lastUsed?.name ?? 'last_used_at',
    createdColumn: table.created?.name ?? null,
    where: where ?? null,
  }
}

/** The table in one line for a person. */
export function describeTable(adopted: AdoptedTable): string {
  const { table, view, idColumn, lastUsedColumn, createdColumn, where } = adopted
  if (!view) return `workspaces are the rows of ${table}`
  const columns = [`id: ${idColumn}`, `last_used_at: ${lastUsedColumn}`]
  if (createdColumn !== null) columns.push(`created_at: ${createdColumn}`)
  const condition = where === null ? '' : ` where ${where.replace(/\s+/g, ' ')}`
  return `workspaces are the rows of ${table}${condition} (${columns.join(', ')})`
}
