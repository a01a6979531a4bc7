import { execute, type Queryable, type Statement } from '../database/connection.ts'
import { isDistributed } from '../database/distributed.ts'
import { asIsoText } from '../database/timestamp.ts'

/** What the verdict asks the tables of marks alone. Times are as `asIsoText` writes them. */
export interface MarkFacts {
  heldLong: number
  heldSince: string | null
  bytes: number
  /** Marks of periods that end further ahead than a workspace can be in use, and the last end if it is finite. */
  futureMarks: number
  futureUntil: string | null
}

/** A statement of its own, because these tables may be on other nodes than the rest of what is asked. */
export async function markFacts(connection: Queryable, heldAfterSeconds: number): Promise<MarkFacts> {
  const size = (await isDistributed(connection)) ? 'citus_total_relation_size' : 'pg_total_relation_size'
  const statement: Statement<{ facts: string }> = {
    sql: `SELECT json_build_object(
      'heldLong', held.marks, 'heldSince', ${asIsoText('held.since')},
      'bytes', pg_catalog.${size}('pending_usage'),
      'futureMarks', future.marks,
      'futureUntil', ${asIsoText('CASE WHEN isfinite(future.until) THEN future.until END')}
    )::text AS facts
    FROM (
      SELECT count(*) AS marks, min(period_end) AS since FROM set_aside_usage
      WHERE reason = 'held' AND period_end < statement_timestamp() - make_interval(secs => $1)
    ) held
    CROSS JOIN (
      SELECT count(*) AS marks, max(period_end) AS until FROM ONLY pending_usage
      WHERE period_end > statement_timestamp() + usage_until_limit()
    ) future`,
    parameters: [heldAfterSeconds],
  }
  const { rows } = await execute(connection, statement)
  return JSON.parse(rows[0]!.facts)
}
