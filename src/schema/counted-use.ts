import { type RawBuilder, sql } from 'kysely'
import { fills } from '../database/used-days.ts'

/*
 * The last use of workspaces without the sources that do not count.
 *
 * Nobody recorded which source had moved workspaces.last_used_at. The history tells: if a source that does not count used
 * the workspace in those five minutes, and no other one did, the last use is that of the others. If there is any doubt,
 * last_used_at counts. So a workspace is never shown as older than the last use by a source that counts, and a time that
 * was not written by a flush counts too: it is mostly no end of a period.
 */

/** The sources that do not count: SQL of their array, and the condition that there is one. */
export interface IgnoredSources {
  sources: RawBuilder<unknown>
  exist: RawBuilder<unknown>
}

/** Of the uses of a workspace, whether some tell that a source that does not count has moved it, and that another one has. */
const BY_IGNORED = sql`bool_or(NOT used.counts AND (used.last OR used.there AND used.ends))`
const BY_COUNTED = sql`bool_or(used.counts AND (used.last OR used.there OR used.later))`
const LAST_COUNTED = sql`max(used.last_used_at) FILTER (WHERE used.counts)`

/**
 * SQL of a table of the workspaces that have a history: `workspace_id`, whether `workspaces.last_used_at` was moved by a
 * source that does not count (`ignored`), and the last use of the others (`last_used_at`, null if there is none). It is
 * empty while every source counts, and nothing is read then. It is one table and not a question for each workspace,
 * because a million questions take half a minute.
 */
export function countedUses(schema: string, ignored: IgnoredSources): RawBuilder<unknown> {
  return sql`(
      SELECT used.workspace_id,
        ${BY_IGNORED} IS TRUE
          AND ${BY_COUNTED} IS NOT TRUE AS ignored,
        ${LAST_COUNTED} AS last_used_at
      FROM (
        ${usesOfDays(schema, ignored)}
        UNION ALL
        ${ownUses(sql`ONLY workspace_usage`, ignored)}
      ) used
      GROUP BY used.workspace_id
    )`
}

/**
 * The same in two tables, of the history and of what is older, with `by_ignored`, `by_counted` and `last_used_at` each:
 * `ignored` is that there is the first and not the second.
 */
export function countedParts(
  schema: string,
  ignored: IgnoredSources,
): { days: RawBuilder<unknown>; own: RawBuilder<unknown> } {
  const sums = (uses: RawBuilder<unknown>) => sql`(
      SELECT used.workspace_id, ${BY_IGNORED} AS by_ignored, ${BY_COUNTED} AS by_counted, ${LAST_COUNTED} AS last_used_at
      FROM (
        ${uses}
      ) used (workspace_id, counts, last_used_at, last, later, there, ends)
      GROUP BY used.workspace_id
    )`
  return {
    days: sums(usesOfDays(schema, ignored)),
    own: sums(ownUses(sql.id(schema, 'workspace_usage'), ignored)),
  }
}

function usesOfDays(schema: string, { sources, exist }: IgnoredSources): RawBuilder<unknown> {
  // The last slot of a time that is further ahead has no number.
  const finite = sql`w.last_used_at >= '1970-01-02 00:00:00Z'::timestamptz AND w.last_used_at < '9999-01-01 00:00:00Z'::timestamptz`
  return sql`SELECT u.workspace_id, u.source <> ALL (${sources}) AS counts, u.last_used_at, u.last_used_at = w.last_used_at AS last,
          u.last_used_at > w.last_used_at AS later,
          CASE WHEN ${finite} THEN ${fills(sql`u.day`, sql`u.slots`, sql`w.last_used_at`)} END AS there,
          ${endsPeriod(schema)} AS ends
        FROM ${sql.id(schema, 'workspace_usage_day')} u JOIN workspaces w ON w.id = u.workspace_id
        WHERE ${exist}`
}

function ownUses(from: RawBuilder<unknown>, { sources, exist }: IgnoredSources): RawBuilder<unknown> {
  return sql`SELECT u.workspace_id, u.source <> ALL (${sources}), u.last_used_at, u.last_used_at = w.last_used_at,
          u.last_used_at > w.last_used_at, false, false
        FROM ${from} u JOIN workspaces w ON w.id = u.workspace_id
        WHERE ${exist}`
}

/** Whether a flush may have written the time. Periods of another length than today's mostly end with a whole second. */
function endsPeriod(schema: string): RawBuilder<unknown> {
  return sql`(
              w.last_used_at = date_trunc('second'::text, w.last_used_at)
              OR extract(epoch FROM w.last_used_at) % extract(epoch FROM ${sql.id(schema, 'usage_period')}()) = 0::numeric
            )`
}
