/**
 * SQL of the view, with `since`, the time from which a workspace is idle. It is infinity if nothing of it is known, so
 * that these come last. In a host's times of creation, what counts as never is NULL, as it is in times of use.
 */
export const IDLE_TIMES = `
  SELECT workspace_id, last_used_at, created_at, used_until,
    coalesce(greatest(used_until, last_used_at), created_at, 'infinity') AS since
  FROM (
    SELECT workspace_id, last_used_at, used_until,
      CASE WHEN created_at >= '1970-01-02 00:00:00Z' AND created_at < 'infinity' THEN created_at END AS created_at
    FROM (SELECT workspace_id, last_used_at, NULL::timestamptz AS created_at, NULL::timestamptz AS used_until FROM workspace_activity) a
  ) activity`
