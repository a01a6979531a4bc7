import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import type { Statement } from '../database/connection.ts'

/** The one row that the flush returns. */
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

/** The place of a mark in flush order, newest period first. All values are strings, so that a job can carry it. */
export interface FlushPosition {
  /** `period_end` in ISO 8601, UTC, to the microsecond (a `Date` would lose three digits). */
  periodEnd: string
  workspaceId: string
  source: string
}

/**
 * The flush in one statement. It locks the marks that are due, consumes all but the held ones, and sets
 * `last_used_at`. A mark is due when its period is closed.
 *
 * The statement joins no two sets of rows. `pending_usage` is emptied and filled every minute, so the planner's
 * statistics are mostly out of date. If they say that the table is almost empty, the planner chooses nested loops, and
 * those took seconds for 5,000 rows. So one set becomes a sorted array, and `width_bucket` searches it.
 *
 * @param batchSize The most marks to take.
 * @param sources Whether to write `workspace_usage`.
 * @param resume Takes only marks that follow this one in flush order.
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

/** Whether `workspace_id` is in a sorted array. In an empty array the bucket is 0, and the element there is null. */
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
    -- The newest period comes first. So after an outage the first batch that has a workspace sets its final value, and
    -- later batches only delete marks of it. This order is that of the primary key, read backwards, so LIMIT stops the
    -- scan. Another flush consumes the rows that it has locked, so they are skipped here.
    due AS MATERIALIZED (
      SELECT ctid AS place, period_end, workspace_id, source
      FROM pending_usage
      WHERE period_end <= statement_timestamp() ${behind}
      ORDER BY period_end DESC, workspace_id DESC, source DESC
      LIMIT ${batchSize}
      FOR UPDATE SKIP LOCKED
    ),
    -- Two writers that update the same workspaces in different orders can deadlock. With SKIP LOCKED the flush waits
    -- for nobody. "= ANY (array)" makes the planner search the index for a sorted array, instead of scanning all
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
    -- These workspaces exist, but we could not lock them: another transaction holds them.
    held AS MATERIALIZED (
      SELECT ARRAY (
        SELECT id FROM workspaces WHERE id = ANY ((SELECT ids FROM missing)::uuid[]) ORDER BY id
      ) AS ids
    ),
    -- These workspaces do not exist: they were deleted, or never created. Their marks are consumed.
    unknown AS MATERIALIZED (
      SELECT ARRAY (SELECT unnest(ids) FROM missing EXCEPT SELECT unnest(ids) FROM held ORDER BY 1) AS ids
    )`

const consume = sql`
    -- Pending rows are never updated, so a row is still at the ctid that the locking scan returned.
    consumed AS (
      DELETE FROM pending_usage
      WHERE ctid = ANY (ARRAY (SELECT place FROM due WHERE NOT ${isAmong(HELD)}))
      RETURNING workspace_id, source, period_end
    ),
    -- Two arrays with matching places: the workspaces, sorted, and the last use of each.
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
    -- The rows are found by id, not by ctid. A workspace that was updated between this statement's snapshot and its
    -- lock has a new ctid. PostgreSQL finds its newest version by id. By ctid the mark would be lost.
    updated AS (
      UPDATE workspaces SET last_used_at = ${usedAt}
      WHERE id = ANY ((SELECT ids FROM latest)::uuid[])
        AND (last_used_at IS NULL OR last_used_at < ${usedAt})
      RETURNING 1
    )`

const updateSources = sql`
    -- We hold the lock of the workspace. So nobody deletes it before the foreign key is checked, and no other flush
    -- writes its sources.
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
    -- The last mark of this batch. The next batch of a drain may have to go on from here.
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
