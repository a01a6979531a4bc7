import { type Connection, execute, type Statement } from '../database/connection.ts'
import { NotMigratedError } from '../errors.ts'
import type { FlushResult } from '../flush/flush.ts'

/** The queue whose jobs flush. The pg-boss dashboard shows it. */
export const FLUSH_QUEUE = 'workspace-usage-flush'

/** The queue of flush jobs that have failed for good. Look for the reason. Later flushes take the marks. */
export const FAILED_FLUSH_QUEUE = 'workspace-usage-flush-failed'

/** The schema that pg-boss is installed in. */
export const JOB_SCHEMA = 'pgboss'

/**
 * The output of a finished job, in the dashboard and in {@link lastFlush}: the counts, and whether its batch was full.
 */
export interface FlushJobOutput extends Omit<FlushResult, 'resume'> {
  /**
   * True if the flush found that `pending_usage` was emptied. Marks that were not flushed by then are lost. Else
   * absent.
   */
  emptied?: boolean
}

/** The last flush that committed. */
export interface LastFlush extends FlushJobOutput {
  completedAt: Date
}

/**
 * Returns the last flush that a worker completed. Null if there is none within about an hour, because pg-boss then
 * deletes finished jobs. A flush by hand is not a job, and is not found here.
 *
 * @throws {NotMigratedError} If pg-boss is not installed.
 */
export async function lastFlush(connection: Connection): Promise<LastFlush | null> {
  // The statements here are plain text. `workspace-usage status` would otherwise spend most of its time on loading
  // Kysely.
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

/** A table of pg-boss, and what a worker may do to it beside reading. */
export interface JobTable {
  name: string
  writes: readonly string[]
}

/**
 * The tables that a worker may not write freely. The rows of "bam" are commands. An upgrade of pg-boss runs them as the
 * owner of its tables, so a role that can write "bam" can do all that the owner can. (A column of "queue" ends up in
 * such commands too, and a worker must insert there when it starts. So workers have fewer rights, but must be trusted.)
 */
const WRITES: Record<string, readonly string[]> = {
  bam: [],
  queue: ['INSERT', 'UPDATE'],
  version: ['UPDATE'],
}

const ALL_WRITES = ['INSERT', 'UPDATE', 'DELETE']

/**
 * Lists the tables of pg-boss. The daily partitions of its statistics are left out, because they are written through
 * their parent.
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
