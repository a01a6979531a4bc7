import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import type { Statement } from '../database/connection.ts'

/** What the flush returns: one row. */
export interface FlushRow {
  flushed: number
  workspaces: number
  updated: number
  unknown: number
  held: number
  last_period_end: string | null
  last_workspace_id: string | null
  last_source: string | null
}

/** A mark's place in flush order (newest period first); plain values, so that a job can carry it. */
export interface FlushPosition {
  /** `period_end` in ISO 8601, UTC, to the microsecond (a `Date` would lose three digits). */
  periodEnd: string
  workspaceId: string
  source: string
}

/**
 * The flush: one statement, which locks what is due, consumes what it may, and sets `last_used_at`.
 *
 * It never joins two sets of rows. What the planner believes about `pending_usage` is of another moment, for the table
 * is emptied and filled every minute. Once the planner believes it almost empty, it joins by nested loops, which took
 * seconds for 5,000 rows. So one set becomes a sorted array, and `width_bucket` finds a value in it by binary search.
 *
 * @param batchSize Marks to take at most.
 * @param sources Whether to keep `workspace_usage`.
 * @param resume Takes only marks behind this one.
 */
export function flushStatement(
  batchSize: number,
  sources: boolean,
  resume: FlushPosition | null,
): Statement<FlushRow> {
  return compile(sql<FlushRow>`
    WITH ${take(batchSize, resume)},
    ${classify},
    ${consume},
    ${update}${sources ? sql`, ${updateSources}` : sql``},
    ${count}`)
}

const HELD = sql`(SELECT ids FROM held)`
const UNKNOWN = sql`(SELECT ids FROM unknown)`

/** Whether `workspace_id` is in a sorted array. In an empty one, the bucket is 0, and what is there is null. */
function isAmong(ids: RawBuilder<unknown>): RawBuilder<boolean> {
  return sql`(workspace_id IS NOT DISTINCT FROM ${ids}[width_bucket(workspace_id, ${ids})])`
}

function take(batchSize: number, resume: FlushPosition | null): RawBuilder<unknown> {
  const behind =
    resume === null
      ? sql``
      : sql`AND (period_end, workspace_id, source)
          < (${resume.periodEnd}::timestamptz, ${resume.workspaceId}::uuid, ${resume.source}::text)`
  return sql`
    -- Newest period first: after an outage the first batch sets the final value, and the later ones only delete. The
    -- order is the primary key read backwards, so LIMIT stops the scan. Rows that another flush has locked are its to
    -- consume, and are skipped.
    due AS MATERIALIZED (
      SELECT ctid AS place, period_end, workspace_id, source
      FROM pending_usage
      WHERE period_end <= statement_timestamp() ${behind}
      ORDER BY period_end DESC, workspace_id DESC, source DESC
      LIMIT ${batchSize}
      FOR UPDATE SKIP LOCKED
    ),
    -- Without this lock, two writers of many workspaces that go in different orders deadlock. With SKIP LOCKED neither
    -- waits. "= ANY (array)" makes the planner descend the index once with a sorted array, instead of scanning all
    -- workspaces.
    locked AS MATERIALIZED (
      SELECT id FROM workspaces
      WHERE id = ANY (ARRAY (SELECT DISTINCT workspace_id FROM due))
      FOR NO KEY UPDATE SKIP LOCKED
    )`
}

const classify = sql`
    missing AS MATERIALIZED (
      SELECT ARRAY (SELECT workspace_id FROM due EXCEPT SELECT id FROM locked) AS ids
    ),
    -- Due, not locked by us, and there: another transaction holds it.
    held AS MATERIALIZED (
      SELECT ARRAY (
        SELECT id FROM workspaces WHERE id = ANY ((SELECT ids FROM missing)::uuid[]) ORDER BY id
      ) AS ids
    ),
    -- Not there at all: deleted, or never created. Its marks are consumed.
    unknown AS MATERIALIZED (
      SELECT ARRAY (SELECT unnest(ids) FROM missing EXCEPT SELECT unnest(ids) FROM held ORDER BY 1) AS ids
    )`

const consume = sql`
    -- Pending rows are never updated, so the place that the locking scan returned is still theirs.
    consumed AS (
      DELETE FROM pending_usage
      WHERE ctid = ANY (ARRAY (SELECT place FROM due WHERE NOT ${isAmong(HELD)}))
      RETURNING workspace_id, source, period_end
    ),
    -- Two arrays side by side: the workspaces, sorted, and when each was used last.
    latest AS MATERIALIZED (
      SELECT array_agg(workspace_id ORDER BY workspace_id) AS ids, array_agg(used_at ORDER BY workspace_id) AS used_at
      FROM (
        SELECT workspace_id, max(period_end) AS used_at
        FROM consumed
        WHERE NOT ${isAmong(UNKNOWN)}
        GROUP BY workspace_id
      ) AS known
    )`

const usedAt = sql`(SELECT used_at FROM latest)[width_bucket(id, (SELECT ids FROM latest))]`

const update = sql`
    -- By id and not by ctid. A workspace that changed between this statement's snapshot and its lock has moved. By id
    -- PostgreSQL follows it to its newest version; by ctid the mark would be lost.
    updated AS (
      UPDATE workspaces SET last_used_at = ${usedAt}
      WHERE id = ANY ((SELECT ids FROM latest)::uuid[])
        AND (last_used_at IS NULL OR last_used_at < ${usedAt})
      RETURNING 1
    )`

const updateSources = sql`
    -- The workspace's row is locked, so nobody can delete it under the foreign key's check, and no other flush touches
    -- its sources.
    by_source AS (
      INSERT INTO workspace_usage AS u (workspace_id, source, last_used_at)
      SELECT workspace_id, source, max(period_end)
      FROM consumed
      WHERE NOT ${isAmong(UNKNOWN)}
      GROUP BY workspace_id, source
      ON CONFLICT (workspace_id, source) DO UPDATE SET last_used_at = excluded.last_used_at
      WHERE u.last_used_at < excluded.last_used_at
    )`

const count = sql`
    -- Where the next batch of a drain may have to go on.
    last AS (
      SELECT period_end, workspace_id, source FROM due ORDER BY period_end, workspace_id, source LIMIT 1
    ),
    counted AS (
      SELECT count(*)::int AS flushed, (count(*) FILTER (WHERE ${isAmong(UNKNOWN)}))::int AS unknown
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
    FROM counted`
