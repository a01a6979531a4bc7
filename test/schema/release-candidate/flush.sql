-- The flush of a worker of the first release candidate of 0.1.0. $1 is the size of a batch.
WITH 
    -- The newest period comes first. So after an outage the first batch that has a workspace sets its final value, and
    -- later batches only delete marks of it. This order is that of the primary key, read backwards, so LIMIT stops the
    -- scan. Another flush consumes the rows that it has locked, so they are skipped here.
    due AS MATERIALIZED (
      SELECT ctid AS place, period_end, workspace_id, source
      FROM pending_usage
      WHERE period_end <= statement_timestamp() 
      ORDER BY period_end DESC, workspace_id DESC, source DESC
      LIMIT $1
      FOR UPDATE SKIP LOCKED
    ),
    -- Two writers that update the same workspaces in different orders can deadlock. With SKIP LOCKED the flush waits
    -- for nobody. "= ANY (array)" makes the planner search the index for a sorted array, instead of scanning all
    -- workspaces.
    locked AS MATERIALIZED (
      SELECT id FROM workspaces
      WHERE id = ANY (ARRAY (SELECT DISTINCT workspace_id FROM due))
      FOR NO KEY UPDATE SKIP LOCKED
    ),
    
    missing AS MATERIALIZED (
      SELECT ARRAY (SELECT workspace_id FROM due EXCEPT SELECT id FROM locked) AS ids
    ),
    -- These workspaces exist, but we could not lock them: another transaction holds them.
    held AS MATERIALIZED (
      SELECT ARRAY (
        SELECT id FROM workspaces WHERE id = ANY ((SELECT ids FROM missing)::uuid[]) ORDER BY id
      ) AS ids
    ),
    -- These workspaces do not exist: they were deleted, or never created. Their marks are consumed.
    unknown AS MATERIALIZED (
      SELECT ARRAY (SELECT unnest(ids) FROM missing EXCEPT SELECT unnest(ids) FROM held ORDER BY 1) AS ids
    ),
    
    -- Pending rows are never updated, so a row is still at the ctid that the locking scan returned.
    consumed AS (
      DELETE FROM pending_usage
      WHERE ctid = ANY (ARRAY (SELECT place FROM due WHERE NOT (workspace_id IS NOT DISTINCT FROM (SELECT ids FROM held)[width_bucket(workspace_id, (SELECT ids FROM held))])))
      RETURNING workspace_id, source, period_end
    ),
    -- Two arrays with matching places: the workspaces, sorted, and the last use of each.
    latest AS MATERIALIZED (
      SELECT array_agg(workspace_id ORDER BY workspace_id) AS ids, array_agg(used_at ORDER BY workspace_id) AS used_at
      FROM (
        SELECT workspace_id, max(period_end) AS used_at
        FROM consumed
        WHERE NOT (workspace_id IS NOT DISTINCT FROM (SELECT ids FROM unknown)[width_bucket(workspace_id, (SELECT ids FROM unknown))])
        GROUP BY workspace_id
      ) AS known
    ),
    
    -- The rows are found by id, not by ctid. A workspace that was updated between this statement's snapshot and its
    -- lock has a new ctid. PostgreSQL finds its newest version by id. By ctid the mark would be lost.
    updated AS (
      UPDATE workspaces SET last_used_at = (SELECT used_at FROM latest)[width_bucket(id, (SELECT ids FROM latest))]
      WHERE id = ANY ((SELECT ids FROM latest)::uuid[])
        AND (last_used_at IS NULL OR last_used_at < (SELECT used_at FROM latest)[width_bucket(id, (SELECT ids FROM latest))])
      RETURNING 1
    ), 
    -- We hold the lock of the workspace. So nobody deletes it before the foreign key is checked, and no other flush
    -- writes its sources.
    by_source AS (
      INSERT INTO workspace_usage AS u (workspace_id, source, last_used_at)
      SELECT workspace_id, source, max(period_end)
      FROM consumed
      WHERE NOT (workspace_id IS NOT DISTINCT FROM (SELECT ids FROM unknown)[width_bucket(workspace_id, (SELECT ids FROM unknown))])
      GROUP BY workspace_id, source
      ON CONFLICT (workspace_id, source) DO UPDATE SET last_used_at = excluded.last_used_at
      WHERE u.last_used_at < excluded.last_used_at
    ),
    
    -- The last mark of this batch. The next batch of a drain may have to go on from here.
    last AS (
      SELECT period_end, workspace_id, source FROM due ORDER BY period_end, workspace_id, source LIMIT 1
    ),
    counted AS (
      SELECT count(*)::int AS flushed, (count(*) FILTER (WHERE (workspace_id IS NOT DISTINCT FROM (SELECT ids FROM unknown)[width_bucket(workspace_id, (SELECT ids FROM unknown))])))::int AS unknown
      FROM consumed
    )
    SELECT
      flushed,
      coalesce(cardinality((SELECT ids FROM latest)), 0) AS workspaces,
      (SELECT count(*) FROM updated)::int AS updated,
      unknown,
      (SELECT count(*) FROM due)::int - flushed AS held,
      (SELECT to_char(period_end AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') FROM last)
        AS last_period_end,
      (SELECT workspace_id FROM last) AS last_workspace_id,
      (SELECT source FROM last) AS last_source
    FROM counted
