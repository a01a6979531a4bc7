import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { isDistributed } from '../database/distributed.ts'
import { NotMigratedError, SearchPathError } from '../errors.ts'

/** The schema of each object of this package, as `search_path` finds it. */
export type UsageLayout = Record<(typeof OBJECTS)[number], string> & {
  /** Whether `workspaces` is a table, and not a view of one of the host. */
  readonly hasTable: boolean
  /** Whether the tables are distributed with Citus. */
  readonly distributed: boolean
}

const OBJECTS = [
  'pending_usage',
  'pending_usage_witness',
  'set_aside_usage',
  'refused_usage',
  'source_usage',
  'pending_usage_reset',
  'pending_usage_place',
  'pending_usage_period',
  'workspace_usage',
  'workspace_usage_day',
  'stopped_workspaces',
  'workspace_activity',
  'workspace_activity_by_source',
  'workspace_usage_daily',
  'workspaces',
] as const

/**
 * @throws {NotMigratedError} If one of the objects is missing.
 * @throws {SearchPathError} If they are in a schema that is not in `search_path`.
 */
export async function usageLayout(connection: Connection): Promise<UsageLayout> {
  const { rows } = await execute(
    connection,
    compile(sql<{ name: string; schema: string | null; kind: string }>`
      SELECT wanted.name, n.nspname::text AS schema, c.relkind::text AS kind
      FROM unnest(${[...OBJECTS]}::text[]) WITH ORDINALITY AS wanted (name, place)
      LEFT JOIN pg_class c ON c.oid = to_regclass(wanted.name)
      LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
      ORDER BY wanted.place`),
  )
  if (rows[0]!.schema === null) await assertNotElsewhere(connection)
  for (const { name, schema } of rows) {
    if (schema === null) throw new NotMigratedError(`"${name}" does not exist`)
  }
  const hasTable = rows.some(({ name, kind }) => name === 'workspaces' && kind === 'r')
  const distributed = await isDistributed(connection)
  return {
    ...Object.fromEntries(rows.map(({ name, schema }) => [name, schema])),
    hasTable,
    distributed,
  } as UsageLayout
}

async function assertNotElsewhere(connection: Connection): Promise<void> {
  const { rows } = await execute(
    connection,
    compile(sql<{ schema: string; path: string }>`
      SELECT n.nspname::text AS schema, current_setting('search_path') AS path
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relname = ${OBJECTS[0]} AND c.relpersistence = 'u'
      ORDER BY 1`),
  )
  if (rows.length > 0) {
    const schemas = rows.map(({ schema }) => schema)
    throw new SearchPathError(OBJECTS[0], schemas, rows[0]!.path)
  }
}
