import { type RawBuilder, sql } from 'kysely'
import { SLOT_SECONDS, SLOTS_OF_A_DAY } from '../database/used-days.ts'
import { countedUses } from './counted-use.ts'
import type { ViewForm } from './view-form.ts'

/*
 * A source that does not count is left out of workspace_activity at once, also for what was flushed before: see
 * counted-use.ts. That is one expression that is not looked at while every source counts.
 */

/** What the queries of all views are written with. */
export interface ViewQuery {
  schema: string
  form: ViewForm
  /** SQL of an id as the views show it. */
  shown(id: RawBuilder<unknown>): RawBuilder<unknown>
}

/** A time that means something. What some hosts write for "never" becomes NULL. */
export function finite(time: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`CASE WHEN ${time} >= '1970-01-02 00:00:00Z'::timestamptz AND ${time} < 'infinity'::timestamptz THEN ${time} END`
}

/** The sources that do not count, as `ignored`: read once for a query. There is an index of them alone. */
export function ignoredSources({ ignoredSources }: ViewForm): RawBuilder<unknown> {
  return sql`ignored AS MATERIALIZED (${ignoredSources})`
}

/** SQL of them as an array, and all that {@link countedUses} asks. */
export const IGNORED = sql`ARRAY (SELECT source FROM ignored)`
export const IGNORED_SOURCES = { sources: IGNORED, exist: sql`EXISTS (SELECT FROM ignored)` }

/** The query of `workspace_activity` on one server. */
export function activity(
  { schema, form, shown }: ViewQuery,
  createdAt: RawBuilder<unknown>,
): RawBuilder<unknown> {
  const counted = countedUses(schema, IGNORED_SOURCES)
  return sql`
    WITH ${ignoredSources(form)}
    SELECT
      ${shown(sql`w.id`)} AS workspace_id,
      CASE WHEN live.pending THEN least(p.period_end, statement_timestamp()) ELSE flushed.last_used_at END
        AS last_used_at,
      CASE WHEN live.pending THEN p.source ELSE f.source END AS source,
      live.pending,
      CASE WHEN p.until AND p.period_end > statement_timestamp() THEN p.period_end END AS used_until,
      ${createdAt} AS created_at
    FROM workspaces w
    LEFT JOIN (
      SELECT DISTINCT ON (workspace_id) workspace_id, period_end, source, until
      FROM (${form.marks}) marks
      WHERE source <> ALL (${IGNORED})
      ORDER BY workspace_id, period_end DESC, source
    ) p ON p.workspace_id = w.id
    LEFT JOIN ${counted} counted ON counted.workspace_id = w.id
    CROSS JOIN LATERAL (
      SELECT CASE WHEN w.last_used_at >= '1970-01-02 00:00:00Z'::timestamptz AND w.last_used_at < 'infinity'::timestamptz
        THEN CASE WHEN counted.ignored THEN counted.last_used_at ELSE w.last_used_at END
      END AS last_used_at
    ) flushed
    LEFT JOIN (
      SELECT workspace_id, last_used_at, min(source) AS source
      FROM ${form.lastUses}
      WHERE source <> ALL (${IGNORED})
      GROUP BY workspace_id, last_used_at
    ) f ON f.workspace_id = w.id AND f.last_used_at = flushed.last_used_at
    CROSS JOIN LATERAL (
      SELECT p.period_end IS NOT NULL AND coalesce(p.period_end > flushed.last_used_at, true) AS pending
    ) live`
}

/** The query of `workspace_activity_by_source`. */
export function bySource({ form, shown }: ViewQuery): RawBuilder<unknown> {
  return sql`
    WITH ${ignoredSources(form)}
    SELECT
      ${shown(sql`latest.workspace_id`)} AS workspace_id,
      latest.source,
      CASE WHEN live.pending THEN least(latest.period_end, statement_timestamp()) ELSE latest.last_used_at END
        AS last_used_at,
      live.pending,
      latest.source <> ALL (${IGNORED}) AS counts,
      CASE WHEN latest.used_until > statement_timestamp() THEN latest.used_until END AS used_until
    FROM (
      SELECT workspace_id, source, max(period_end) AS period_end, max(last_used_at) AS last_used_at,
        max(used_until) AS used_until
      FROM (
        SELECT workspace_id, source, NULL::timestamptz AS period_end, last_used_at, NULL::timestamptz AS used_until
        FROM ${form.lastUses}
        UNION ALL
        SELECT workspace_id, source, period_end, NULL::timestamptz, CASE WHEN until THEN period_end END
        FROM (${form.marks}) marks
      ) used
      GROUP BY workspace_id, source
    ) latest
    CROSS JOIN LATERAL (
      SELECT latest.period_end IS NOT NULL AND coalesce(latest.period_end > latest.last_used_at, true)
        AS pending
    ) live`
}

/** The query of `workspace_usage_daily`. */
export function daily({ schema, form, shown }: ViewQuery): RawBuilder<unknown> {
  return sql`
    SELECT ${shown(sql`workspace_id`)} AS workspace_id, day, source,
      (${sql.lit(SLOT_SECONDS / 60)} * bit_count(bit_or(slots)))::integer AS minutes_used,
      min(first_used_at) AS first_used_at, max(last_used_at) AS last_used_at,
      bit_or(slots)::bit(${sql.lit(SLOTS_OF_A_DAY)}) AS slots
    FROM (
      SELECT workspace_id, day, source, slots, first_used_at, last_used_at FROM ${sql.id(schema, 'workspace_usage_day')}
      WHERE day > '1970-01-01'::date
      UNION ALL
      ${form.daysOfMarks}
    ) used
    GROUP BY workspace_id, source, day`
}
