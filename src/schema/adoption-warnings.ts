import { type Connection, execute } from '../database/connection.ts'
import { CHECKS } from './adoption-checks.ts'
import { refusedUpdate } from './update-probe.ts'

/** Something about the host's table `workspaces` that works, but not as well as it could, or not for each workspace. */
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
 * Lists what an operator should know about the table `workspaces` that `search_path` finds. Empty if there is nothing,
 * or no such table. It reads the catalogs and changes nothing, so it can be called at any time.
 *
 * @param connection In no transaction of the caller, because a question that PostgreSQL refuses would abort it.
 */
export async function adoptionWarnings(connection: Connection): Promise<AdoptionWarning[]> {
  const { rows } = await execute<{ named: string | null }>(connection, {
    sql: `SELECT pg_catalog.to_regclass('workspaces')::text AS named`,
    parameters: [],
  })
  if (rows[0]!.named === null) return []
  const warnings: AdoptionWarning[] = []
  for (const { code, find, consequence, remedy } of CHECKS) {
    const { rows } = await execute<{ object: string }>(connection, { sql: find, parameters: [] })
    warnings.push(...rows.map(({ object }) => ({ code, object, consequence, remedy })))
  }
  const refused = await refusedUpdate(connection)
  if (refused !== null) {
    warnings.push({
      code: 'update-refused',
      object: `table ${rows[0]!.named}`,
      consequence: `Every flush fails, and all marks stay pending: ${refused.message}.`,
      remedy:
        'Give the table a primary key, or set REPLICA IDENTITY USING INDEX with a unique index; or leave the table, ' +
        'or its updates, out of the publication.',
    })
  }
  return warnings
}
