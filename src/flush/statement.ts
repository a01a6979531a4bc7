import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import type { Statement } from '../database/connection.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { dueMarks, edgeOfBatch, type Taking } from './due-marks.ts'
import { updateHistory } from './history.ts'
import { type IdSql, idSql } from './id-sql.ts'
import { isAmong, lock, REFUSED, WANTED } from './lock-workspaces.ts'
import { countedSources, type MarksBySource, noteSources } from './source-usage.ts'
import type { Place } from './walk.ts'
import { note } from './witness.ts'

/** The one column of the row that the flush returns: {@link FlushCounts} in JSON. No setting of a driver changes it. */
export interface FlushRow {
  counts: string
}

/** What one statement did to the marks that it took. */
export interface FlushCounts {
  /** Marks that it took, by what became of them. `flushed` includes `unknown`. */
  flushed: number
  unknown: number
  held: number
  awaited: number
  refused: number
  /** Distinct workspaces of the flushed marks, and how many of their rows moved forward. */
  workspaces: number
  updated: number
  /** The flushed marks of each source. Of more than twenty, those with most marks. */
  bySource: MarksBySource
  /** Workspaces whose row stayed as it was, although it was updated: a trigger of the host cancelled the update. */
  unmoved: string[]
  /** Whether marks that were set aside can be looked at again, and whether a refused workspace is due for an attempt. */
  heldDue: boolean
  awaitedDue: boolean
  untilDue: boolean
  refusedDue: boolean
  /** The source of more than half of the marks, if their workspaces do not exist. Null if there is none. */
  flood: string | null
  /**
   * Where the batch ended in flush order, in which of the ranges that is, and whether it took all that it saw. Only if
   * ranges were given.
   */
  edge?: { place: Place | null; range: number | null; complete: boolean }
}

/** How the flush runs. */
export interface FlushStatementOptions {
  /** Whether to write when each source used each workspace, and whether to keep in which five minutes. */
  sources: boolean
  history: boolean
  /** Marks of a workspace that does not exist are kept until they are this old, in seconds. */
  unknownAfterSeconds: number
  /**
   * Whether to lock all that an update of the host's table may wait for, and not only what it mostly needs. It costs
   * more. It is for another attempt, after a lock was not free.
   */
  careful: boolean
  /** The type of the ids of workspaces in this database. */
  idType: WorkspaceIdType
  /** Whether a period may be longer than a slot of the history. Default true, which costs more. */
  longPeriod?: boolean
}

/**
 * The flush in one statement. It locks the marks that are due, sets `last_used_at`, and deletes the marks. Marks that
 * it can't settle are set aside.
 *
 * The statement joins no two sets of rows. `pending_usage` is emptied and filled every minute, so the planner's
 * statistics are mostly out of date. If they say that the table is almost empty, the planner chooses nested loops, and
 * those took seconds for 5,000 rows. So one set becomes a sorted array, and `width_bucket` searches it.
 */
export function flushStatement(taking: Taking, options: FlushStatementOptions): Statement<FlushRow> {
  const { sources, history, unknownAfterSeconds, careful, idType, longPeriod = true } = options
  const uses = !history ? 'last' : taking.from !== 'pending' || longPeriod ? 'long' : 'short'
  const ids = idSql(idType)
  const tellsEdge =
    taking.from === 'pending' && taking.ranges !== undefined && !taking.among && !taking.beside
  return compile(sql<FlushRow>`
    WITH ${dueMarks(taking, ids)},
    ${lock(taking, careful, ids)},
    ${classify(unknownAfterSeconds, ids)},
    ${taking.from === 'pending' ? setAside : lookAgainLater(ids)},
    ${update(ids)}${sources ? sql`, ${updateHistory(uses)}` : sql``},
    ${noteSources},
    ${tellsEdge ? sql`${edgeOfBatch(taking, ids)},` : sql``}
    ${count(tellsEdge, ids)},
    ${noteAndReturn}`)
}

const HELD = sql`(SELECT keys FROM held)`
const UNKNOWN = sql`(SELECT keys FROM unknown)`

/** Nothing is settled if two ids of the batch have the same key. */
const unlessExact = ({ fixed }: IdSql) =>
  fixed ? sql`` : sql`WHEN NOT (SELECT exact FROM wanted) THEN 'held'`

/** Part of the statement: `mark`, which is `due` and what becomes of each. */
export function classify(unknownAfterSeconds: number, ids: IdSql): RawBuilder<unknown> {
  const { key, many } = ids
  return sql`
    missing AS MATERIALIZED (
      SELECT ARRAY (SELECT unnest(${WANTED}) EXCEPT SELECT id FROM locked) AS ids
    ),
    -- These workspaces exist, but we could not lock them: another transaction holds them.
    held AS MATERIALIZED (
      SELECT ARRAY (
        SELECT ${key(sql`id`)} FROM workspaces WHERE id = ANY (${many(sql`(SELECT ids FROM missing)`)})
        UNION SELECT ${key(sql`unnest(ids)`)} FROM busy
        ORDER BY 1
      ) AS keys
    ),
    -- These workspaces do not exist: they were deleted, or never created, or their INSERT has not committed yet.
    unknown AS MATERIALIZED (
      SELECT ARRAY (
        SELECT ${key(sql`unnest(ids)`)} FROM missing EXCEPT SELECT unnest(keys) FROM held ORDER BY 1
      ) AS keys
    ),
    -- A mark is young by the time of this transaction, because a snapshot may be as old as that.
    mark AS MATERIALIZED (
      SELECT place, period_end, workspace_id, source, used_from, CASE ${unlessExact(ids)}
        WHEN ${isAmong(REFUSED, ids)} THEN 'refused'
        WHEN ${isAmong(HELD, ids)} THEN 'held'
        WHEN NOT ${isAmong(UNKNOWN, ids)} THEN 'flushed'
        WHEN period_end > now() - make_interval(secs => ${unknownAfterSeconds}) THEN 'awaited'
        ELSE 'unknown'
      END AS fate
      FROM due
    )`
}

const setAside = sql`
    -- Pending rows are never updated, so a row is still at the ctid that the locking scan returned.
    taken AS (
      DELETE FROM ONLY pending_usage WHERE ctid = ANY (ARRAY (SELECT place FROM mark))
    ),
    set_aside AS (
      INSERT INTO set_aside_usage (period_end, workspace_id, source, reason, next_attempt_at)
      SELECT period_end, workspace_id, source, fate,
        CASE fate WHEN 'refused' THEN 'infinity' ELSE statement_timestamp() END
      FROM mark WHERE fate IN ('held', 'awaited', 'refused')
        -- A statement of a marker that goes on across the end of its period stores a mark again that was set aside
        -- already. The one there is as good. Another flush may just look at it again, and an INSERT would wait for that.
        AND (
          SELECT reason FROM set_aside_usage AS there
          WHERE there.period_end = mark.period_end AND there.workspace_id = mark.workspace_id
            AND there.source = mark.source
        ) IS NULL
      ON CONFLICT DO NOTHING
    )`

const lookAgainLater = (ids: IdSql) => sql`
    taken AS (
      DELETE FROM set_aside_usage
      WHERE ctid = ANY (ARRAY (SELECT place FROM mark WHERE fate IN ('flushed', 'unknown')))
    ),
    -- Those that were looked at go behind all others.
    set_aside AS (
      UPDATE set_aside_usage SET
        reason = CASE ${unlessExact(ids)}
          WHEN ${isAmong(REFUSED, ids)} THEN 'refused' WHEN ${isAmong(HELD, ids)} THEN 'held' ELSE 'awaited' END,
        next_attempt_at = CASE WHEN ${isAmong(REFUSED, ids)} THEN 'infinity' ELSE statement_timestamp() END
      WHERE ctid = ANY (ARRAY (SELECT place FROM mark WHERE fate IN ('held', 'awaited', 'refused')))
    )`

/** What an array has for the workspace `id`, whose place is that of its key in another one. */
function ofId(column: string, table: string, { key }: IdSql): RawBuilder<unknown> {
  const from = sql.id(table)
  return sql`(SELECT ${sql.id(column)} FROM ${from})[width_bucket(${key(sql`id`)}, (SELECT keys FROM ${from}))]`
}

/** Part of the statement: moves `last_used_at` of the marks that are settled. */
export const update = (ids: IdSql) => {
  const { key, column, many } = ids
  const byKey = sql`ORDER BY ${key(sql`id`)}`
  return sql`
    -- Marks of a source that does not count are settled as all others, but move nothing.
    ignored AS MATERIALIZED (
      SELECT ARRAY (SELECT source FROM source_usage WHERE NOT counts) AS sources
    ),
    -- Two arrays with matching places: the keys of the workspaces, sorted, and the last use of each.
    latest AS MATERIALIZED (
      SELECT array_agg(${key(sql`id`)} ${byKey}) AS keys, array_agg(used_at ${byKey}) AS used_at
      FROM (
        SELECT workspace_id AS id,
          max(period_end) FILTER (WHERE source <> ALL ((SELECT sources FROM ignored)::text[])) AS used_at
        FROM mark WHERE fate = 'flushed' GROUP BY workspace_id
      ) AS known
    ),
    -- The workspaces that move forward. Some hosts store 'infinity' for one that was never used.
    older AS MATERIALIZED (
      SELECT array_agg(id ${byKey}) AS ids, array_agg(${key(sql`id`)} ${byKey}) AS keys,
        array_agg(used_at ${byKey}) AS used_at, array_agg(last_used_at ${byKey}) AS was
      FROM (
        SELECT id, last_used_at, ${ofId('used_at', 'latest', ids)} AS used_at FROM locked
        WHERE id <> ALL (${many(sql`(SELECT ids FROM busy)`)})
      ) AS known
      WHERE used_at IS NOT NULL AND (last_used_at IS NULL OR last_used_at < used_at OR last_used_at = 'infinity')
    ),
    -- The rows are found by id, not by ctid. A workspace that was updated between this statement's snapshot and its
    -- lock has a new ctid. PostgreSQL finds its newest version by id. By ctid the mark would be lost.
    updated AS (
      UPDATE workspaces
      SET last_used_at = ${ofId('used_at', 'older', ids)}
      WHERE id = ANY (${many(sql`(SELECT ids FROM older)`)})
      RETURNING ${column(sql`id`)} AS id, last_used_at
    ),
    written AS MATERIALIZED (
      SELECT array_agg(${key(sql`id`)} ${byKey}) AS keys, array_agg(last_used_at ${byKey}) AS used_at FROM updated
    )`
}

/** SQL of the workspaces whose update a trigger cancelled. */
export const unmoved = (ids: IdSql) => sql`CASE
        WHEN (SELECT keys FROM written) IS NOT DISTINCT FROM (SELECT keys FROM older)
          AND (SELECT used_at FROM written) IS NOT DISTINCT FROM (SELECT used_at FROM older)
        THEN ARRAY[]::text[]
        ELSE ARRAY (
          SELECT unnest(ids)::text FROM older
          EXCEPT SELECT id::text FROM updated WHERE last_used_at IS DISTINCT FROM ${ofId('was', 'older', ids)}
        )
      END`

const count = (tellsEdge: boolean, ids: IdSql) => sql`
    counted AS MATERIALIZED (SELECT json_build_object(
      'flushed', count(*) FILTER (WHERE fate IN ('flushed', 'unknown')),
      'unknown', count(*) FILTER (WHERE fate = 'unknown'),
      'held', count(*) FILTER (WHERE fate = 'held'),
      'awaited', count(*) FILTER (WHERE fate = 'awaited'),
      'refused', count(*) FILTER (WHERE fate = 'refused'),
      'workspaces', coalesce((SELECT cardinality(keys) FROM latest), 0),
      'updated', coalesce((SELECT cardinality(keys) FROM written), 0),
      'bySource', ${countedSources},
      'unmoved', ${unmoved(ids)},
      'heldDue', EXISTS (SELECT FROM set_aside_usage WHERE reason = 'held' AND next_attempt_at <= now()),
      'untilDue', EXISTS (SELECT FROM set_aside_usage WHERE reason = 'until' AND next_attempt_at <= now()),
      'awaitedDue', EXISTS (SELECT FROM set_aside_usage WHERE reason = 'awaited' AND next_attempt_at <= now()),
      'flood', (
        SELECT source FROM mark GROUP BY source
        HAVING 2 * count(*) FILTER (WHERE fate IN ('awaited', 'unknown')) > (SELECT count(*) FROM mark)
      ),
      'refusedDue', EXISTS (SELECT FROM refused_usage WHERE next_attempt_at <= statement_timestamp())
      ${tellsEdge ? sql`, 'edge', (SELECT row_to_json(edge) FROM edge)` : sql``}
    ) AS counts
    FROM mark)`

/** The note is part of the statement. After it the workspaces are locked, and a round trip would prolong that. */
const noteAndReturn = sql`
    noted AS (${note(sql`(SELECT counts FROM counted)`)}
    )
    SELECT counts::text AS counts FROM counted`
