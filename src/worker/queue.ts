import { sql } from 'kysely'
import { type Connection, execute } from '../database/connection.ts'
import { explainDatabaseError } from '../database/sql-state.ts'
import type { FlushResult } from '../flush/flush.ts'

/** The queue whose jobs flush; what the pg-boss dashboard shows. */
export const FLUSH_QUEUE = 'workspace-usage-flush'

/** Where a flush job goes that has failed for good; a job there is a reason to look, not to retry. */
export const FAILED_FLUSH_QUEUE = 'workspace-usage-flush-failed'

/** What a finished job shows in the dashboard and in {@link lastFlush}: the counts, and whether the batch was full. */
export interface FlushJobOutput extends Omit<FlushResult, 'resume'> {
  /** True if `pending_usage` was emptied since the flush before: unflushed marks of then are lost. Else absent. */
  emptied?: boolean
}

/** The last flush that committed. */
export interface LastFlush extends FlushJobOutput {
  completedAt: Date
}

/**
 * Reads the last flush that a worker completed from pg-boss, which keeps finished jobs for an hour; null if there is
 * none. A flush run by hand is not a job and does not show here.
 *
 * @throws {NotMigratedError} If pg-boss is not installed.
 */
export async function lastFlush(connection: Connection): Promise<LastFlush | null> {
  const statement = sql<{ output: FlushJobOutput; completed_on: Date }>`
    SELECT output, completed_on FROM pgboss.job
    WHERE name = ${FLUSH_QUEUE} AND state = 'completed'
    ORDER BY completed_on DESC LIMIT 1`
  try {
    const { rows } = await execute(connection, statement)
    const row = rows[0]
    return row ? { completedAt: row.completed_on, ...row.output } : null
  } catch (error) {
    throw explainDatabaseError(error)
  }
}
