import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { NotMigratedError } from '../errors.ts'

/** The schema of each object of this package, as `search_path` finds it. */
export type UsageLayout = Record<(typeof OBJECTS)[number], string>

const OBJECTS = [
  'pending_usage',
  'pending_usage_witness',
  'workspace_usage',
  'workspace_activity',
  'workspace_activity_by_source',
  'workspaces',
] as const

/** @throws {NotMigratedError} If one of the objects is missing. */
export async function usageLayout(connection: Connection): Promise<UsageLayout> {
  const { rows } = await execute(
    connection,
    compile(sql<{ name: string; schema: string | null }>`
      SELECT wanted.name, n.nspname AS schema
      FROM unnest(${[...OBJECTS]}::text[]) AS wanted (name)
      LEFT JOIN pg_class c ON c.oid = to_regclass(wanted.name)
      LEFT JOIN pg_namespace n ON n.oid = c.relnamespace`),
  )
  for (const { name, schema } of rows) {
    if (schema === null) throw new NotMigratedError(`"${name}" does not exist`)
  }
  return Object.fromEntries(rows.map(({ name, schema }) => [name, schema])) as UsageLayout
}
