import { type RawBuilder, sql } from 'kysely'
import { fills } from '../database/used-days.ts'

/*
 * The last use of a workspace without the sources that do not count.
 *
 * Nobody recorded which source had moved workspaces.last_used_at. The history tells: if a source that does not count used
 * the workspace in those five minutes, and no other one did, the last use is that of the others. If there is any doubt,
 * last_used_at counts. So a workspace is never shown as older than the last use by a source that counts, and a time that
 * was not written by a flush counts too: it is mostly no end of a period.
 */

/**
 * SQL of the last use of the workspace `w` that counts. Null if only sources that do not count have used it.
 *
 * @param ignored SQL of the array of sources that do not count.
 */
export function countedUse(schema: string, ignored: RawBuilder<unknown>): RawBuilder<unknown> {
  const there = fills(sql`u.day`, sql`u.slots`, sql`w.last_used_at`)
  return sql`(
          SELECT CASE
            WHEN bool_or(NOT used.counts AND (used.last OR used.there AND ${endsPeriod(schema)})) IS TRUE
              AND bool_or(used.counts AND (used.last OR used.there OR used.last_used_at > w.last_used_at)) IS NOT TRUE
            THEN max(used.last_used_at) FILTER (WHERE used.counts)
            ELSE w.last_used_at
          END
          FROM (
            SELECT u.source <> ALL (${ignored}) AS counts, u.last_used_at, u.last_used_at = w.last_used_at AS last,
              ${there} AS there
            FROM ${sql.id(schema, 'workspace_usage_day')} u WHERE u.workspace_id = w.id
            UNION ALL
            SELECT u.source <> ALL (${ignored}), u.last_used_at, u.last_used_at = w.last_used_at, false
            FROM ONLY workspace_usage u WHERE u.workspace_id = w.id
          ) used
        )`
}

/** Whether a flush may have written the time. Periods of another length than today's mostly end with a whole second. */
function endsPeriod(schema: string): RawBuilder<unknown> {
  return sql`(
              w.last_used_at = date_trunc('second'::text, w.last_used_at)
              OR extract(epoch FROM w.last_used_at) % extract(epoch FROM ${sql.id(schema, 'usage_period')}()) = 0::numeric
            )`
}
