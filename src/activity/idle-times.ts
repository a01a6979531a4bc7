/**
 * SQL of the view, with `since`, the time from which a workspace is idle. It is infinity if nothing of it is known, so
 * that these come last. What hosts write for "never" is NULL in all times of the view.
 */
export const IDLE_TIMES = `
  SELECT workspace_id, last_used_at, created_at, used_until,
    coalesce(greatest(used_until, last_used_at), created_at, 'infinity') AS since
  FROM workspace_activity`
