import { type Kysely, sql } from 'kysely'
import { idType } from './0001_pending_usage.ts'

/*
 * These views show flushed and pending usage in one snapshot. A role that may read them needs no right on the tables.
 *
 * A lookup of one workspace must be cheap among millions of workspaces, whatever the planner believes of pending_usage.
 * That table is emptied and filled every minute, so its statistics are mostly out of date. Three things help:
 *
 * - The recursion finds the few distinct periods by the first column of the key. This is a loose index scan. PostgreSQL
 *   does it by itself only since 18. It is ORDER BY … LIMIT 1 and not min(), because min() reads the whole index if the
 *   planner believes that the table is empty.
 * - "= ANY (ARRAY …)" looks up each period by (period_end, workspace_id). A join with the periods could read every
 *   pending row instead.
 * - DISTINCT ON and GROUP BY start with workspace_id. So a condition on the view's workspace_id passes through them to
 *   the indexes. Without such a condition they are computed once and hashed, so reading everything is no loop over
 *   workspaces.
 */
const PENDING_PERIODS = sql`
  RECURSIVE period (period_end) AS (
    (SELECT period_end FROM pending_usage ORDER BY period_end LIMIT 1)
    UNION ALL
    SELECT next.period_end
    FROM period CROSS JOIN LATERAL (
      SELECT u.period_end FROM pending_usage u
      WHERE u.period_end > period.period_end
      ORDER BY u.period_end LIMIT 1
    ) next
  )`

export async function up(db: Kysely<never>): Promise<void> {
  const { shown } = await idType(db, 'pending_usage', 'workspace_id')
  // The flushed time is that of "workspaces", even if somebody else wrote it there. workspace_usage only tells the
  // source. The grouped join is unique, so PostgreSQL drops it from a query that does not ask for the source. An open
  // period ends in the future, so its usage is shown as of now. CASE is needed, because least(NULL, now) is now.
  await sql`
    CREATE VIEW workspace_activity AS
    WITH ${PENDING_PERIODS}
    SELECT
      ${shown(sql`w.id`)} AS workspace_id,
      CASE WHEN live.pending THEN least(p.period_end, statement_timestamp()) ELSE w.last_used_at END
        AS last_used_at,
      CASE WHEN live.pending THEN p.source ELSE f.source END AS source,
      live.pending
    FROM workspaces w
    LEFT JOIN (
      SELECT DISTINCT ON (workspace_id) workspace_id, period_end, source
      FROM pending_usage
      WHERE period_end = ANY (ARRAY (SELECT period_end FROM period))
      ORDER BY workspace_id, period_end DESC, source
    ) p ON p.workspace_id = w.id
    LEFT JOIN (
      SELECT workspace_id, last_used_at, min(source) AS source
      FROM workspace_usage
      GROUP BY workspace_id, last_used_at
    ) f ON f.workspace_id = w.id AND f.last_used_at = w.last_used_at
    CROSS JOIN LATERAL (
      SELECT p.period_end IS NOT NULL AND coalesce(p.period_end > w.last_used_at, true) AS pending
    ) live
  `.execute(db)
  await sql`
    COMMENT ON VIEW workspace_activity IS
      'Last use of each workspace, pending use included. source is null if the workspace was never used or it is not known who did.'
  `.execute(db)

  await sql`
    CREATE VIEW workspace_activity_by_source AS
    WITH ${PENDING_PERIODS}
    SELECT
      ${shown(sql`latest.workspace_id`)} AS workspace_id,
      latest.source,
      CASE WHEN live.pending THEN least(latest.period_end, statement_timestamp()) ELSE latest.last_used_at END
        AS last_used_at,
      live.pending
    FROM (
      SELECT workspace_id, source, max(period_end) AS period_end, max(last_used_at) AS last_used_at
      FROM (
        SELECT workspace_id, source, NULL::timestamptz AS period_end, last_used_at FROM workspace_usage
        UNION ALL
        SELECT workspace_id, source, period_end, NULL::timestamptz FROM pending_usage
        WHERE period_end = ANY (ARRAY (SELECT period_end FROM period))
      ) used
      GROUP BY workspace_id, source
    ) latest
    CROSS JOIN LATERAL (
      SELECT latest.period_end IS NOT NULL AND coalesce(latest.period_end > latest.last_used_at, true)
        AS pending
    ) live
  `.execute(db)
  await sql`
    COMMENT ON VIEW workspace_activity_by_source IS
      'Last use of each workspace by each source, pending use included; also of ids that are marked and not in workspaces.'
  `.execute(db)
}

export async function down(db: Kysely<never>): Promise<void> {
  await sql`DROP VIEW workspace_activity_by_source`.execute(db)
  await sql`DROP VIEW workspace_activity`.execute(db)
}
