import { sql } from 'kysely'
import { type Connection, execute } from './connection.ts'
import { NotMigratedError } from './errors.ts'

/** The schema that pg-boss is installed in. */
export const JOB_SCHEMA = 'pgboss'

/** The schema of each object of this package, found through `search_path`. */
export type UsageLayout = Record<(typeof OBJECTS)[number], string>

const OBJECTS = [
  'pending_usage',
  'workspace_usage',
  'workspace_activity',
  'workspace_activity_by_source',
  'workspaces',
] as const

/** A table of pg-boss that its jobs write: as a whole, or only the columns named. */
export interface JobTable {
  name: string
  columns: string[] | null
}

/**
 * What of pg-boss's tables a worker must not write. Those values end up in commands that an upgrade of pg-boss runs
 * as the owner of its tables ("bam" holds nothing else), so whoever may write them may do all that the owner may.
 * Workers need none of it; null stands for the whole table.
 */
const OWNERS_OWN: Record<string, string[] | null> = {
  bam: null,
  queue: ['name', 'partition', 'table_name'],
  version: ['version'],
}

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
 * The tables that pg-boss's jobs write, without the daily partitions of its statistics, which are written through
 * their parent.
 *
 * @throws {NotMigratedError} If pg-boss is not installed.
 */
export async function jobTables(connection: Connection): Promise<JobTable[]> {
  const { rows } = await execute(
    connection,
    sql<{ name: string; columns: string[] }>`
      SELECT c.relname AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = ${JOB_SCHEMA}
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      WHERE c.relkind IN ('r', 'p') AND NOT (c.relispartition AND c.relname LIKE 'queue\_stats\_%')
      GROUP BY c.relname ORDER BY c.relname`,
  )
  if (rows.length === 0) throw new NotMigratedError('pg-boss is not installed')
  return rows.flatMap(({ name, columns }) => {
    const kept = OWNERS_OWN[name]
    if (kept === null) return []
    return { name, columns: kept ? columns.filter(column => !kept.includes(column)) : null }
  })
}
