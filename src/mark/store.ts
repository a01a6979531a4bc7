import { type Connection, execute, type Statement } from '../database/connection.ts'
import { insertPendingUsage } from './mark.ts'

/** What the database says of the period in which it stored a batch. */
export interface PeriodAnswer {
  /** Milliseconds from the statement's time to the period's end. */
  remaining_ms: number
  /** The period's end and the server's start. Another server, or this one started anew, may lack what was stored. */
  period: string
}

/**
 * Stores a batch of a tracker with one statement.
 *
 * @returns Undefined if a driver or proxy lost the row; nothing can be remembered then.
 */
export async function storeBatch(
  connection: Connection,
  ids: Iterable<string>,
  source: string | undefined,
): Promise<PeriodAnswer | undefined> {
  const { rows } = await execute(connection, storeStatement([...ids], source))
  return rows[0]
}

/** The same INSERT as that of `markUsage`, and a row that tells until when its marks count. */
function storeStatement(ids: readonly string[], source: string | undefined): Statement<PeriodAnswer> {
  const insert = insertPendingUsage(ids, source)
  return {
    sql: `WITH stored AS (${insert.sql})
      SELECT
        extract(epoch FROM usage_period_end() - statement_timestamp())::float8 * 1000 AS remaining_ms,
        concat_ws(' ', extract(epoch FROM usage_period_end()), extract(epoch FROM pg_postmaster_start_time()))
          AS period`,
    parameters: insert.parameters,
  }
}
