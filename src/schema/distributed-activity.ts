import { type RawBuilder, sql } from 'kysely'
import { SOURCE_OF_MARK } from '../database/source-of-mark.ts'
import { IGNORED, IGNORED_SOURCES, ignoredSources, type ViewQuery } from './activity-queries.ts'
import { countedParts } from './counted-use.ts'

/*
 * workspace_activity where the tables are distributed. It shows what the query of one server shows. But Citus runs no
 * UNION within an outer join on each shard: it would bring all rows of both tables to the coordinator, and send them to
 * each shard. So each table is joined by itself, by the id of the workspace, and the rows are merged here.
 */

/** Where marks are: pending, and set aside. */
const UNTIL = { pending_usage: sql`false`, set_aside_usage: sql`reason = 'until'::text` }

/** The query of `workspace_activity` on a cluster. */
export function distributedActivity(
  { schema, form, shown }: ViewQuery,
  createdAt: RawBuilder<unknown>,
): RawBuilder<unknown> {
  const { days, own } = countedParts(schema, IGNORED_SOURCES)
  return sql`
    WITH ${ignoredSources(form)}
    SELECT
      ${shown(sql`w.id`)} AS workspace_id,
      CASE WHEN live.pending THEN least(mark.period_end, statement_timestamp()) ELSE flushed.last_used_at END
        AS last_used_at,
      CASE WHEN live.pending THEN mark.source ELSE least(day_source.source, own_source.source) END AS source,
      live.pending,
      CASE WHEN mark.until AND mark.period_end > statement_timestamp() THEN mark.period_end END AS used_until,
      ${createdAt} AS created_at
    FROM workspaces w
    LEFT JOIN ${latestMarks(schema, 'pending_usage')} p ON p.workspace_id = w.id
    LEFT JOIN ${latestMarks(schema, 'set_aside_usage')} a ON a.workspace_id = w.id
    LEFT JOIN ${days} counted_day ON counted_day.workspace_id = w.id
    LEFT JOIN ${own} counted_own ON counted_own.workspace_id = w.id
    CROSS JOIN LATERAL (
      SELECT coalesce(
        a.period_end > p.period_end OR a.period_end = p.period_end AND a.source < p.source, a.period_end IS NOT NULL
      ) AS aside
    ) later
    CROSS JOIN LATERAL (
      SELECT CASE WHEN later.aside THEN a.period_end ELSE p.period_end END AS period_end,
        CASE WHEN later.aside THEN a.source ELSE p.source END AS source,
        CASE WHEN later.aside THEN a.until ELSE p.until END AS until
    ) mark
    CROSS JOIN LATERAL (
      SELECT CASE WHEN w.last_used_at >= '1970-01-02 00:00:00Z'::timestamptz AND w.last_used_at < 'infinity'::timestamptz
        THEN CASE
          WHEN (counted_day.by_ignored OR counted_own.by_ignored) IS TRUE
            AND (counted_day.by_counted OR counted_own.by_counted) IS NOT TRUE
          THEN greatest(counted_day.last_used_at, counted_own.last_used_at)
          ELSE w.last_used_at
        END
      END AS last_used_at
    ) flushed
    LEFT JOIN ${sourcesOf(schema, 'workspace_usage_day')} day_source
      ON day_source.workspace_id = w.id AND day_source.last_used_at = flushed.last_used_at
    LEFT JOIN ${sourcesOf(schema, 'workspace_usage')} own_source
      ON own_source.workspace_id = w.id AND own_source.last_used_at = flushed.last_used_at
    CROSS JOIN LATERAL (
      SELECT mark.period_end IS NOT NULL AND coalesce(mark.period_end > flushed.last_used_at, true) AS pending
    ) live`
}

function latestMarks(schema: string, table: keyof typeof UNTIL): RawBuilder<unknown> {
  return sql`(
      SELECT DISTINCT ON (workspace_id) workspace_id, period_end, source, until
      FROM (
        SELECT workspace_id, period_end, ${sql.raw(SOURCE_OF_MARK)}, ${UNTIL[table]} AS until FROM ${sql.id(schema, table)}
      ) marks
      WHERE source <> ALL (${IGNORED})
      ORDER BY workspace_id, period_end DESC, source
    )`
}

/** The source of each last use. Of several at the same time it is the first by name. */
function sourcesOf(schema: string, table: string): RawBuilder<unknown> {
  return sql`(
      SELECT workspace_id, last_used_at, min(source) AS source FROM ${sql.id(schema, table)}
      WHERE source <> ALL (${IGNORED})
      GROUP BY workspace_id, last_used_at
    )`
}
