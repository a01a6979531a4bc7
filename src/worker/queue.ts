import { type Connection, execute, type Statement } from '../database/connection.ts'
import { NotMigratedError } from '../errors.ts'
import type { FlushResult } from '../flush/flush.ts'

/** The queue whose jobs flush; what the pg-boss dashboard shows. */
export const FLUSH_QUEUE = 'workspace-usage-flush'

/** Where a flush job goes that has failed for good. A job there is a reason to look, not to retry. */
export const FAILED_FLUSH_QUEUE = 'workspace-usage-flush-failed'

/** The schema that pg-boss is installed in. */
export const JOB_SCHEMA = 'pgboss'

/** What a finished job shows in the dashboard and in {@link lastFlush}: the counts, and whether its batch was full. */
export interface FlushJobOutput extends Omit<FlushResult, 'resume'> {
  /** True if the flush found `pending_usage` emptied: marks that were not flushed by then are lost. Absent otherwise. */
  emptied?: boolean
}

/** The last flush that committed. */
export interface LastFlush extends FlushJobOutput {
  completedAt: Date
}

/**
 * The last flush that a worker completed. Null if there is none: pg-boss keeps finished jobs for an hour. A flush by
 * hand is no job and does not show here.
 *
 * @throws {NotMigratedError} If pg-boss is not installed.
 */
export async function lastFlush(connection: Connection): Promise<LastFlush | null> {
  // Written out, as is the next one: `workspace-usage status` would spend most of its time on loading Kysely.
  const statement: Statement<{ output: FlushJobOutput; completed_on: Date }> = {
    sql: `SELECT output, completed_on FROM ${JOB_SCHEMA}.job
      WHERE name = $1 AND state = 'completed'
      ORDER BY completed_on DESC LIMIT 1`,
    parameters: [FLUSH_QUEUE],
  }
  const { rows } = await execute(connection, statement)
  const row = rows[0]
  return row ? { completedAt: row.completed_on, ...row.output } : null
}

/** A table of pg-boss, and what a worker does to it beside reading. */
export interface JobTable {
  name: string
  writes: readonly string[]
}

/**
 * Tables that a worker writes less than fully. The rows of "bam" are commands, which an upgrade of pg-boss runs as the
 * owner of its tables: whoever may write them may do all that the owner may. ("queue" has a column that ends up in such
 * commands too, and every worker that starts must insert there. So a worker is less than the owner, but is trusted.)
 */
const WRITES: Record<string, readonly string[]> = {
  bam: [],
  queue: ['INSERT', 'UPDATE'],
  version: ['UPDATE'],
}

const ALL_WRITES = ['INSERT', 'UPDATE', 'DELETE']

/**
 * The tables of pg-boss. The daily partitions of its statistics are left out: they are written through their parent.
 *
 * @throws {NotMigratedError} If pg-boss is not installed.
 */
export async function jobTables(connection: Connection): Promise<JobTable[]> {
  const statement: Statement<{ name: string }> = {
    sql: `SELECT c.relname AS name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')
        AND NOT (c.relispartition AND c.relname LIKE $2)
      ORDER BY c.relname`,
    parameters: [JOB_SCHEMA, 'queue\\_stats\\_%'],
  }
  const { rows } = await execute(connection, statement)
  if (rows.length === 0) throw new NotMigratedError('pg-boss is not installed')
  return rows.map(({ name }) => ({ name, writes: WRITES[name] ?? ALL_WRITES }))
}
