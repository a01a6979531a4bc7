import { type Kysely, sql } from 'kysely'

/** The live read: what was flushed and what is pending, one row per workspace. */
export async function up(db: Kysely<never>): Promise<void> {
  // Three things make one lookup cheap on a million workspaces. The recursion walks the few distinct periods by the
  // first column of the key (a loose index scan, which PostgreSQL before 18 does not do by itself). "= ANY (ARRAY …)"
  // turns them into probes of (period_end, workspace_id), where a join might scan every pending row. And DISTINCT ON
  // workspace_id lets a predicate on the view's workspace_id through to both subqueries.
  //
  // A period's end lies ahead while the period is open, so pending use is shown as of now at the latest.
  await sql`
    CREATE VIEW workspace_activity AS
    WITH RECURSIVE period (period_end) AS (
      SELECT min(period_end) FROM pending_usage
      UNION ALL
      SELECT (SELECT min(later.period_end) FROM pending_usage later WHERE later.period_end > period.period_end)
      FROM period WHERE period.period_end IS NOT NULL
    )
    SELECT
      w.id AS workspace_id,
      greatest(w.last_used_at, f.last_used_at, least(p.period_end, statement_timestamp())) AS last_used_at,
      CASE WHEN p.period_end IS NOT NULL AND least(p.period_end, statement_timestamp()) >= coalesce(greatest(w.last_used_at, f.last_used_at), '-infinity')
        THEN p.source
        WHEN f.last_used_at >= coalesce(w.last_used_at, '-infinity') THEN f.source
      END AS source,
      coalesce(p.period_end > greatest(w.last_used_at, f.last_used_at), p.period_end IS NOT NULL) AS pending
    FROM workspaces w
    LEFT JOIN (
      SELECT DISTINCT ON (workspace_id) workspace_id, period_end, source
      FROM pending_usage
      WHERE period_end = ANY (ARRAY(SELECT period_end FROM period))
      ORDER BY workspace_id, period_end DESC, source
    ) p ON p.workspace_id = w.id
    LEFT JOIN (
      SELECT DISTINCT ON (workspace_id) workspace_id, last_used_at, source
      FROM workspace_usage
      ORDER BY workspace_id, last_used_at DESC, source
    ) f ON f.workspace_id = w.id
  `.execute(db)
}

export async function down(db: Kysely<never>): Promise<void> {
  await sql`DROP VIEW workspace_activity`.execute(db)
}
