import { type Connection, execute, type Statement } from '../database/connection.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import { flushQueues, JOB_SCHEMA } from '../worker/queue.ts'

/** The error that is going on: flushes of workers have failed since the last one that committed. */
export interface FailingFlushes {
  /** When the first job that failed was sent. It is never before the last flush. */
  since: Date
  /** How often a flush failed since then. pg-boss forgets failed jobs after an hour. */
  attempts: number
  /** When the newest attempt started or ended. */
  lastAt: Date
  /** What the newest attempt failed with. */
  message: string
}

/**
 * Tells what flush jobs fail with, by the jobs that pg-boss keeps. Null if none has failed since the last flush, by a
 * worker or by hand. A worker that can't reach the database leaves no job. Look at the lag too.
 *
 * @throws {NotMigratedError} If pg-boss is not installed, or there is no `pending_usage_witness`.
 * @throws {StandbyError} On a standby.
 */
export async function failingFlushes(connection: Connection): Promise<FailingFlushes | null> {
  const { flush } = await flushQueues(connection)
  // A job that waits for its retry has failed once more than it was retried. Its output tells the newest error, also
  // while it runs again. pg-boss wraps some errors.
  const statement: Statement<{ since: string; attempts: string; last: string; message: string }> = {
    sql: `WITH failed AS (
      SELECT
        coalesce(completed_on, started_on) AS at,
        greatest(created_on, flushed_at) AS began_at,
        retry_count + CASE WHEN state IN ('retry', 'failed') THEN 1 ELSE 0 END AS attempts,
        coalesce(output->>'message', output->'value'->>'message', output::text, 'no message') AS message
      FROM ${JOB_SCHEMA}.job
      LEFT JOIN pending_usage_witness ON true
      WHERE name = $1
        AND (state IN ('retry', 'failed') OR state = 'active' AND retry_count > 0)
        AND coalesce(completed_on, started_on) > coalesce(
          flushed_at,
          -- A crash empties the witness, and pg-boss keeps its jobs.
          (SELECT max(completed_on) FROM ${JOB_SCHEMA}.job WHERE name = $1 AND state = 'completed'),
          '-infinity'
        )
    )
    SELECT ${asIsoText('min(began_at)')} AS since, sum(attempts)::text AS attempts, ${asIsoText('max(at)')} AS last,
      (array_agg(message ORDER BY at DESC))[1] AS message
    FROM failed HAVING count(*) > 0`,
    parameters: [flush],
  }
  const row = (await execute(connection, statement)).rows[0]
  if (!row) return null
  return {
    since: parseIsoText(row.since),
    attempts: Number(row.attempts),
    lastAt: parseIsoText(row.last),
    message: row.message,
  }
}
