import { sql } from 'kysely'
import { type Connection, execute } from '../database/connection.ts'
import { NotMigratedError } from '../errors.ts'

/** The schema that pg-boss is installed in. */
export const JOB_SCHEMA = 'pgboss'

/** The schema of each object of this package, found through `search_path`. */
export type UsageLayout = Record<(typeof OBJECTS)[number], string>

const OBJECTS = [
  'pending_usage',
  'pending_usage_witness',
  'workspace_usage',
  'workspace_activity',
  'workspace_activity_by_source',
  'workspaces',
] as const

/** A table of pg-boss, and what its jobs do to it beside reading. */
export interface JobTable {
  name: string
  writes: readonly string[]
}

/**
 * Where jobs write less than everything. The rows of "bam" are commands that an upgrade of pg-boss runs as
 * the owner of its tables: whoever may write them may do all that the owner may. ("queue" has a column that
 * ends up in such commands too, and every worker that starts inserts there. So a worker is less than the
 * owner, but not a stranger.)
 */
const WRITES: Record<string, readonly string[]> = {
  bam: [],
  queue: ['INSERT', 'UPDATE'],
  version: ['UPDATE'],
}

const ALL_WRITES = ['INSERT', 'UPDATE', 'DELETE']

/** @throws {NotMigratedError} If one of the objects is missing. */
export async function usageLayout(connection: Connection): Promise<UsageLayout> {
  const { rows } = await execute(
    connection,
    sql<{ name: string; schema: string | null }>`
      SELECT wanted.name, n.nspname AS schema
      FROM unnest(${[...OBJECTS]}::text[]) AS wanted (name)
      LEFT JOIN pg_class c ON c.oid = to_regclass(wanted.name)
      LEFT JOIN pg_namespace n ON n.oid = c.relnamespace`,
  )
  for (const { name, schema } of rows) {
    if (schema === null) throw new NotMigratedError(`"${name}" does not exist`)
  }
  return Object.fromEntries(rows.map(({ name, schema }) => [name, schema])) as UsageLayout
}

/**
 * The tables of pg-boss, without the daily partitions of its statistics, which are written through
 * their parent.
 *
 * @throws {NotMigratedError} If pg-boss is not installed.
 */
export async function jobTables(connection: Connection): Promise<JobTable[]> {
  const { rows } = await execute(
    connection,
    sql<{ name: string }>`
      SELECT c.relname AS name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = ${JOB_SCHEMA} AND c.relkind IN ('r', 'p')
        AND NOT (c.relispartition AND c.relname LIKE ${'queue\\_stats\\_%'})
      ORDER BY c.relname`,
  )
  if (rows.length === 0) throw new NotMigratedError('pg-boss is not installed')
  return rows.map(({ name }) => ({ name, writes: WRITES[name] ?? ALL_WRITES }))
}
