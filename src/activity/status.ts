import { type Connection, execute, type Statement } from '../database/connection.ts'

// These statements are plain text. A health check would otherwise spend most of its time on loading Kysely.

/** What is pending, and for how long. */
export interface PendingStatus {
  /** Marks of the open period. They can't be flushed yet. */
  open: number
  /** Marks of closed periods. They wait for the next flush. */
  closed: number
  /** Seconds since the end of the oldest closed period, or 0 if there is none. Alert on this number. */
  lagSeconds: number
}

/**
 * Counts the pending marks, by the database's clock.
 *
 * @throws {NotMigratedError} If there is no `pending_usage`.
 * @throws {StandbyError} On a standby.
 */
export async function pendingStatus(connection: Connection): Promise<PendingStatus> {
  const statement: Statement<{ open: string; closed: string; lag: string }> = {
    sql: `SELECT
      count(*) FILTER (WHERE period_end > statement_timestamp()) AS open,
      count(*) FILTER (WHERE period_end <= statement_timestamp()) AS closed,
      greatest(0, coalesce(extract(epoch FROM statement_timestamp() - min(period_end)), 0))::text AS lag
    FROM pending_usage`,
    parameters: [],
  }
  const { rows } = await execute(connection, statement)
  const { open, closed, lag } = rows[0]!
  return { open: Number(open), closed: Number(closed), lagSeconds: Number(lag) }
}

/**
 * Tells how long the open period still lasts, in milliseconds. The result is more than 0, and at most the period's
 * length.
 *
 * @throws {NotMigratedError} If there is no `usage_period_end()`.
 */
export async function openPeriodRemaining(connection: Connection): Promise<number> {
  const statement: Statement<{ remaining: string }> = {
    sql: 'SELECT (extract(epoch FROM usage_period_end() - statement_timestamp()) * 1000)::text AS remaining',
    parameters: [],
  }
  const { rows } = await execute(connection, statement)
  return Number(rows[0]!.remaining)
}
