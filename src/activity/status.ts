import { type Connection, execute, type Statement } from '../database/connection.ts'
import { IN_PENDING_PERIODS } from './pending-periods.ts'
import { assertVisible, hiddenTable } from './visible.ts'

// These statements are plain text. A health check would otherwise spend most of its time on loading Kysely.

/** What is pending, and for how long. */
export interface PendingStatus {
  /** Marks of the open period. They can't be flushed yet. */
  open: number
  /** Marks of closed periods, those that are set aside included. So are uses until a time that has come. */
  closed: number
  /** Of the closed ones, set aside because another transaction held their workspace. The next flush tries them. */
  held: number
  /** Of the closed ones, set aside because their workspace does not exist, perhaps not yet. */
  awaited: number
  /** Of the closed ones, set aside because the database refuses the update of their workspace. */
  refused: number
  /** Marks of workspaces that are in use until a time ahead. They are neither open nor closed. */
  until: number
  /**
   * Seconds since the end of the oldest closed period that has a mark which is not set aside, or since the time until
   * which a workspace was in use. 0 if there is none. Alert on this number.
   */
  lagSeconds: number
}

/**
 * Counts the pending marks, by the database's clock.
 *
 * @throws {NotMigratedError} If there is no `pending_usage`.
 * @throws {RowSecurityError} If row-level security may hide rows from the role.
 * @throws {StandbyError} On a standby.
 */
export async function pendingStatus(connection: Connection): Promise<PendingStatus> {
  const statement: Statement<{ status: string; hidden: string | null }> = {
    sql: `WITH marks AS (
      SELECT count(*) FILTER (WHERE period_end > statement_timestamp()) AS open,
        count(*) FILTER (WHERE period_end <= statement_timestamp()) AS closed,
        min(period_end) AS oldest
      FROM ONLY pending_usage WHERE ${IN_PENDING_PERIODS}
    ), aside AS (
      SELECT count(*) FILTER (WHERE NOT ahead) AS marks, count(*) FILTER (WHERE reason = 'held') AS held,
        count(*) FILTER (WHERE reason = 'awaited') AS awaited, count(*) FILTER (WHERE reason = 'refused') AS refused,
        count(*) FILTER (WHERE ahead) AS until, min(period_end) FILTER (WHERE reason = 'until' AND NOT ahead) AS due
      FROM (
        SELECT reason, period_end, reason = 'until' AND period_end > statement_timestamp() AS ahead FROM set_aside_usage
      ) AS marks
    )
    SELECT json_build_object(
      'open', open, 'closed', closed + aside.marks, 'held', held, 'awaited', awaited, 'refused', refused,
      'until', until,
      'lagSeconds', greatest(0, coalesce(extract(epoch FROM statement_timestamp() - least(oldest, due)), 0))
    )::text AS status, ${hiddenTable('pending_usage', 'set_aside_usage')} AS hidden
    FROM marks, aside`,
    parameters: [],
  }
  const { rows } = await execute(connection, statement)
  assertVisible(rows[0]!.hidden)
  return JSON.parse(rows[0]!.status)
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
