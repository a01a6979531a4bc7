import { type RawBuilder, sql } from 'kysely'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { dueMarks, edgeOfBatch, type Taking } from './due-marks.ts'
import { classify, HELD, unlessExact } from './fate.ts'
import { updateHistory } from './history.ts'
import { type IdSql, idSql } from './id-sql.ts'
import { isAmong, lock, REFUSED, settled, type Taken } from './lock-workspaces.ts'
import {
  countedSources,
  type MarksBySource,
  type MarksOfSource,
  marksOfSources,
  namedSources,
  noteSources,
} from './source-usage.ts'
import { PENDING_USAGE, REFUSED_USAGE, SET_ASIDE_USAGE } from './tables.ts'
import { unmoved, update } from './update-workspaces.ts'
import type { Place } from './walk.ts'
import { note } from './witness.ts'

/** The row that the flush returns. */
export interface FlushRow {
  /** {@link FlushCounts} in JSON. No setting of a driver changes it. */
  counts: string
  /** Of a statement that is a transaction of its own: whether that must be rolled back. */
  undo?: boolean
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
  /** Whether all that was updated without a lock has the time that was asked for. Else nothing is known of `unmoved`. */
  exact: boolean
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
  /** What is left to note in `source_usage`. Only of a statement on a shard. */
  sources?: MarksOfSource[]
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
  /** Whether to update at once what nobody has locked. That needs a table. Default false, which costs more. */
  direct?: boolean
  /** The type of the ids of workspaces in this database. */
  idType: WorkspaceIdType
  /** Whether a period may be longer than a slot of the history. Default true, which costs more. */
  longPeriod?: boolean
  /**
   * Whether it runs on a shard, in a transaction of its own. Then it tells what has to be noted in the tables that are
   * no shards, and whether it must be undone. Default false.
   */
  onShard?: boolean
  /** On a shard: the sources whose marks do not count. */
  ignored?: readonly string[]
}

/**
 * The flush in one statement. It locks the marks that are due, sets `last_used_at`, and deletes the marks. Marks that
 * it can't settle are set aside.
 *
 * The statement joins no two sets of rows. `pending_usage` is emptied and filled every minute, so the planner's
 * statistics are mostly out of date. If they say that the table is almost empty, the planner chooses nested loops, and
 * those took seconds for 5,000 rows. So one set becomes a sorted array, and `width_bucket` searches it.
 */
export function flushStatement(taking: Taking, options: FlushStatementOptions): RawBuilder<FlushRow> {
  const { sources, history, unknownAfterSeconds, idType, longPeriod = true, onShard = false } = options
  const { careful, direct = false, ignored } = options
  const how = { careful, direct, ...(ignored && { ignored }) }
  const uses = !history ? 'last' : taking.from !== 'pending' || longPeriod ? 'long' : 'short'
  const ids = idSql(idType)
  const tellsEdge =
    taking.from === 'pending' && taking.ranges !== undefined && !taking.among && !taking.beside
  return sql<FlushRow>`
    WITH ${dueMarks(taking, ids)},
    ${lock(taking, how, ids)},
    ${classify(unknownAfterSeconds, ids)},
    ${taking.from === 'pending' ? setAside : lookAgainLater(ids)},
    ${update(ids, how)}${sources ? sql`, ${updateHistory(uses)}` : sql``},
    ${byFate},
    ${namedSources},${onShard ? sql`` : sql`${noteSources},`}
    ${tellsEdge ? sql`${edgeOfBatch(taking, ids)},` : sql``}
    ${count({ tellsEdge, onShard }, how, ids)}${onShard ? returnFromShard : noteAndReturn}`
}

const setAside = sql`
    -- Pending rows are never updated, so a row is still at the ctid that the locking scan returned.
    taken AS (
      DELETE FROM ONLY ${PENDING_USAGE} WHERE ctid = ANY (ARRAY (SELECT place FROM due))
    ),
    set_aside AS (
      INSERT INTO ${SET_ASIDE_USAGE} (period_end, workspace_id, source, reason, next_attempt_at)
      SELECT period_end, workspace_id, source, fate,
        CASE fate WHEN 'refused' THEN 'infinity' ELSE statement_timestamp() END
      FROM judged WHERE fate IN ('held', 'awaited', 'refused')
        -- A statement of a marker that goes on across the end of its period stores a mark again that was set aside
        -- already. The one there is as good. Another flush may just look at it again, and an INSERT would wait for that.
        AND (
          SELECT reason FROM ${SET_ASIDE_USAGE} AS there
          WHERE there.period_end = judged.period_end AND there.workspace_id = judged.workspace_id
            AND there.source = judged.source
        ) IS NULL
      ON CONFLICT DO NOTHING
    )`

const lookAgainLater = (ids: IdSql) => sql`
    taken AS (
      DELETE FROM ${SET_ASIDE_USAGE}
      WHERE ctid = ANY (ARRAY (SELECT place FROM mark WHERE fate IN ('flushed', 'unknown')))
    ),
    -- Those that were looked at go behind all others.
    set_aside AS (
      UPDATE ${SET_ASIDE_USAGE} SET
        reason = CASE ${unlessExact(ids)}
          WHEN ${isAmong(REFUSED, ids)} THEN 'refused' WHEN ${isAmong(HELD, ids)} THEN 'held' ELSE 'awaited' END,
        next_attempt_at = CASE WHEN ${isAmong(REFUSED, ids)} THEN 'infinity' ELSE statement_timestamp() END
      WHERE ctid = ANY (ARRAY (SELECT place FROM judged WHERE fate IN ('held', 'awaited', 'refused')))
    )`

/** What the counts tell beside those of the marks. */
interface Told {
  tellsEdge: boolean
  onShard: boolean
}

/** The marks are looked through once. All that is counted follows from these few rows. */
const byFate = sql`
    by_fate AS MATERIALIZED (
      SELECT source COLLATE "C" AS source, fate, count(*) AS marks, min(period_end) AS first_end,
        max(period_end) AS last_end
      FROM mark GROUP BY 1, 2
    )`

const count = ({ tellsEdge, onShard }: Told, how: Taken, ids: IdSql) => sql`
    counted AS MATERIALIZED (SELECT json_build_object(
      'flushed', coalesce(sum(marks) FILTER (WHERE fate IN ('flushed', 'unknown')), 0),
      'unknown', coalesce(sum(marks) FILTER (WHERE fate = 'unknown'), 0),
      'held', coalesce(sum(marks) FILTER (WHERE fate = 'held'), 0),
      'awaited', coalesce(sum(marks) FILTER (WHERE fate = 'awaited'), 0),
      'refused', coalesce(sum(marks) FILTER (WHERE fate = 'refused'), 0),
      'workspaces', ${settled(how, ids)},
      'updated', (SELECT workspaces FROM written),
      'bySource', ${countedSources},
      'unmoved', ${unmoved(ids)},
      'exact', (SELECT exact FROM moved),
      'heldDue', EXISTS (SELECT FROM ${SET_ASIDE_USAGE} WHERE reason = 'held' AND next_attempt_at <= now()),
      'untilDue', EXISTS (SELECT FROM ${SET_ASIDE_USAGE} WHERE reason = 'until' AND next_attempt_at <= now()),
      'awaitedDue', EXISTS (SELECT FROM ${SET_ASIDE_USAGE} WHERE reason = 'awaited' AND next_attempt_at <= now()),
      'flood', (
        SELECT source FROM by_fate GROUP BY source
        HAVING 2 * coalesce(sum(marks) FILTER (WHERE fate IN ('awaited', 'unknown')), 0) > (SELECT sum(marks) FROM by_fate)
      ),
      'refusedDue', EXISTS (SELECT FROM ${REFUSED_USAGE} WHERE next_attempt_at <= statement_timestamp())
      ${tellsEdge ? sql`, 'edge', (SELECT row_to_json(edge) FROM edge)` : sql``}
      ${onShard ? sql`, 'sources', ${marksOfSources}` : sql``}
    ) AS counts
    FROM by_fate)`

/** The note is part of the statement. After it the workspaces are locked, and a round trip would prolong that. */
const noteAndReturn = sql`,
    noted AS (${note(sql`(SELECT counts FROM counted)`)}
    )
    SELECT counts::text AS counts FROM counted`

const returnFromShard = sql`
    SELECT counts::text AS counts,
      NOT (counts ->> 'exact')::boolean OR json_array_length(counts -> 'unmoved') > 0 AS undo
    FROM counted`
