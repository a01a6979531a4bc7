import { type Connection, execute } from '../database/connection.ts'
import { CHECKS } from './adoption-checks.ts'
import { refusedUpdate } from './update-probe.ts'
import { type WorkspacesTable, workspacesTable } from './workspaces-table.ts'

/** Something about the host's table that works, but not as well as it could, or not for each workspace. */
export interface AdoptionWarning {
  /** A stable name of the kind, such as `row-trigger`. */
  code: string
  /** What it is about, such as `index by_last_use`. */
  object: string
  /** What it means for flushes or for the host. */
  consequence: string
  /** What the host can do. */
  remedy: string
}

/**
 * Lists what an operator should know about the table `workspaces` that `search_path` finds, or the table that a view of
 * this name shows. Empty if there is nothing, or no such table. It reads the catalogs and changes nothing, so it can be called at any time.
 *
 * @param connection In no transaction of the caller, because a question that PostgreSQL refuses would abort it.
 */
export async function adoptionWarnings(connection: Connection): Promise<AdoptionWarning[]> {
  const table = await workspacesTable(connection)
  if (table === null || table.lastUsed === null) return []
  const { name } = table.lastUsed
  const warnings: AdoptionWarning[] = []
  for (const { code, find, consequence, remedy } of CHECKS) {
    const parameters = [table.oid, ...(find.includes('$2') ? [name] : [])]
    const { rows } = await execute<{ object: string }>(connection, { sql: find, parameters })
    const own = (text: string) => text.replaceAll('last_used_at', name)
    warnings.push(
      ...rows.map(({ object }) => ({ code, object, consequence: own(consequence), remedy: own(remedy) })),
    )
  }
  const unreferred = await withoutForeignKey(connection, table)
  if (unreferred !== null) warnings.push(unreferred)
  const refused = await refusedUpdate(connection)
  if (refused !== null) {
    warnings.push({
      code: 'update-refused',
      object: `table ${table.shown}`,
      consequence: `Every flush fails, and all marks stay pending: ${refused.message}.`,
      remedy:
        'Give the table a primary key, or set REPLICA IDENTITY USING INDEX with a unique index; or leave the table, ' +
        'or its updates, out of the publication.',
    })
  }
  return warnings
}

/** Through a view, a host may be adopted to which no foreign key can refer. */
async function withoutForeignKey(
  connection: Connection,
  table: WorkspacesTable,
): Promise<AdoptionWarning | null> {
  if (table.views.length === 0 || table.id === null) return null
  const { rows } = await execute<{ missing: boolean; referred: boolean }>(connection, {
    sql: `SELECT usage.oid IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conrelid = usage.oid AND k.confrelid = $1::oid
      ) AS missing,
      coalesce(has_column_privilege(c.relowner, $1::oid, $2::int2, 'REFERENCES'), false) AS referred
      FROM (SELECT pg_catalog.to_regclass('workspace_usage') AS oid) usage
      LEFT JOIN pg_catalog.pg_class c ON c.oid = usage.oid`,
    parameters: [table.oid, table.id.number],
  })
  if (rows[0]?.missing !== true) return null
  return {
    code: 'no-foreign-key',
    object: `table ${table.shown}`,
    consequence:
      'When a workspace is deleted, what is known of its use by source stays for a while. workspace_usage does not ' +
      'refer to this table.',
    remedy: rows[0].referred
      ? 'Remove the rows of workspace_usage whose workspace is not in the table, then migrate again.'
      : `Let the role that migrates refer to it, then migrate again: GRANT REFERENCES (${table.id.name}).`,
  }
}
