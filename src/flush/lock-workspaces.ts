import { type RawBuilder, sql } from 'kysely'
import type { Taking } from './due-marks.ts'
import type { IdSql } from './id-sql.ts'
import { REFUSED_USAGE, WORKSPACE_USAGE_DAY, WORKSPACES } from './tables.ts'

/**
 * Whether the key of `workspace_id` is in a sorted array. In an empty array the bucket is 0, and the element there is
 * null.
 */
export function isAmong(keys: RawBuilder<unknown>, { key }: IdSql): RawBuilder<boolean> {
  const wanted = key(sql`workspace_id`)
  return sql`(${wanted} IS NOT DISTINCT FROM ${keys}[width_bucket(${wanted}, ${keys})])`
}

/** The workspaces to update or to lock, and those of them to lock. */
const WANTED = sql`(SELECT ids FROM wanted)`
export const REST = sql`(SELECT ids FROM rest)`
/** Of the workspaces with marks, the keys of those that the database refuses. */
export const REFUSED = sql`(SELECT keys FROM refused)`
/** Workspaces that are locked, but whose use by source is not. */
export const BUSY = sql`(SELECT ids FROM busy)`

/**
 * The last use of the workspace `id`, in the marks that are due and count. Null if none of its marks counts. Mostly all
 * marks are of one period. Then nothing has to be searched for.
 */
export function usedAt({ key, keys }: IdSql): RawBuilder<unknown> {
  return sql`coalesce(
          (SELECT same FROM used_workspace),
          (SELECT used_at FROM used_workspace)[width_bucket(${key(sql`id`)}, (SELECT ${keys} FROM used_workspace))]
        )`
}

/** A condition on locked workspaces: that nobody holds their use by source. */
export function notBusy({ careful }: { careful: boolean }, { many }: IdSql): RawBuilder<boolean> {
  return careful ? sql`id <> ALL (${many(BUSY)})` : sql`true`
}

/** How a statement takes workspaces. */
export interface Taken {
  /** The sources whose marks do not count. Default: those that `source_usage` tells. */
  ignored?: readonly string[]
  /** Whether to lock all that an update of the host's table may wait for, and not only what it mostly needs. */
  careful: boolean
  /** Whether to update at once what nobody has locked. */
  direct: boolean
}

/** How many workspaces are updated or locked, and settled. */
export function settled(how: Taken, ids: IdSql): RawBuilder<unknown> {
  return how.careful
    ? sql`(SELECT count(*) FROM locked WHERE ${notBusy(how, ids)})`
    : sql`((SELECT workspaces FROM found) + (SELECT workspaces FROM moved))`
}

/** Part of the flush statement: takes the workspaces of the marks that are due, and waits for nobody. */
export function lock({ from }: Taking, how: Taken, ids: IdSql): RawBuilder<unknown> {
  const { careful, direct, ignored } = how
  const { fixed, key, column, many, noIds, noKeys } = ids
  const known = sql`(SELECT ids FROM used_workspace)`
  // The retry of refused workspaces is the only one that tries them.
  const refused =
    from === 'refused'
      ? sql`SELECT ${noKeys} AS keys`
      : sql`
        SELECT ARRAY (
          SELECT ${key(sql`workspace_id`)} FROM ${REFUSED_USAGE}
          WHERE workspace_id = ANY (${many(known)}) ORDER BY 1
        ) AS keys`
  return sql`
    -- Marks of a source that does not count are settled as all others, but move nothing.
    ignored AS MATERIALIZED (
      SELECT sources, sources = '{}' AS all_count
      FROM (SELECT ${ignored ? sql`${[...ignored]}::text[]` : IGNORED} AS sources) AS ignored_source
    ),
    ${usedWorkspaces(ids)},
    refused AS MATERIALIZED (${refused}),
    wanted AS MATERIALIZED (
      SELECT CASE ${fixed ? sql`` : sql`WHEN NOT (SELECT exact FROM used_workspace) THEN ${noIds}`}
        WHEN ${REFUSED} = ${noKeys} THEN ${many(known)}
        ELSE ARRAY (
          SELECT workspace_id FROM unnest(${many(known)}) AS workspace_id WHERE NOT ${isAmong(REFUSED, ids)}
        )
      END AS ids
    ),
    ${direct ? moveUntouched(ids) : NOTHING_MOVED}
    -- Two writers that update the same workspaces in different orders can deadlock. With SKIP LOCKED the flush waits
    -- for nobody. "= ANY (array)" makes the planner search the index for a sorted array, instead of scanning all
    -- workspaces.
    locked AS MATERIALIZED (
      SELECT ${column(sql`id`)} AS id, last_used_at FROM ${WORKSPACES}
      WHERE id = ANY (${many(REST)})
      ${careful ? sql`FOR UPDATE SKIP LOCKED` : sql`FOR NO KEY UPDATE SKIP LOCKED`}
    ),
    found AS MATERIALIZED (SELECT count(*) AS workspaces FROM locked),
    ${careful ? busySources(ids) : sql`busy AS MATERIALIZED (SELECT ${noIds} AS ids)`}`
}

const IGNORED = sql`ARRAY (SELECT source FROM source_usage WHERE NOT counts)`

const NOTHING_MOVED = sql`
    moved AS MATERIALIZED (SELECT 0 AS workspaces, true AS exact),
    rest AS MATERIALIZED (SELECT ids FROM wanted),`

/**
 * To lock a row and to update it then costs a second visit, and 54 bytes of WAL. Mostly nobody has locked a row since it
 * was written: its `xmax` is 0. Such rows are updated at once. All others are locked first. That `xmax` is read right
 * before the update, so somebody who takes the lock in between makes the flush wait for a moment, or fail and try again
 * with locks only.
 */
const moveUntouched = (ids: IdSql) => sql`
    moving AS (
      UPDATE ONLY ${WORKSPACES} SET last_used_at = ${usedAt(ids)}
      WHERE id = ANY (${ids.many(WANTED)}) AND xmax = 0
        -- Some hosts store 'infinity' for one that was never used.
        AND coalesce(nullif(last_used_at, 'infinity'), '-infinity') < ${usedAt(ids)}
      RETURNING ${ids.column(sql`id`)} AS id, (last_used_at >= ${usedAt(ids)}) IS TRUE AS exact
    ),
    -- A trigger may have stored another time. Then only a lock tells whether it is later than the one before.
    moved AS MATERIALIZED (SELECT count(*) AS workspaces, coalesce(bool_and(exact), true) AS exact FROM moving),
    rest AS MATERIALIZED (
      SELECT CASE WHEN (SELECT workspaces FROM moved) = cardinality(${WANTED}) THEN ${ids.noIds}
        ELSE ARRAY (SELECT unnest(${WANTED}) EXCEPT SELECT id FROM moving) END AS ids
    ),`

/** Everything is looked up in these arrays, so there is one sort. Planners choose to sort more than once by themselves. */
function usedWorkspaces({ fixed, key }: IdSql): RawBuilder<unknown> {
  const counts = sql`FILTER (WHERE (SELECT all_count FROM ignored) OR source <> ALL ((SELECT sources FROM ignored)::text[]))`
  const [order, keys] = fixed
    ? [sql`workspace_id`, sql``]
    : [sql`key, workspace_id`, sql`, array_agg(key) AS keys, count(*) = count(DISTINCT key) AS exact`]
  return sql`
    -- Arrays with matching places, sorted by key: the workspaces of the marks, and the last use of each. If that is the
    -- same for all, it is here by itself.
    used_workspace AS MATERIALIZED (
      SELECT array_agg(workspace_id) AS ids, array_agg(used_at) AS used_at${keys},
        CASE WHEN count(used_at) = count(*) AND min(used_at) = max(used_at) THEN max(used_at) END AS same
      FROM (
        SELECT ${order}, max(period_end) ${counts} AS used_at
        FROM (
          SELECT workspace_id, period_end, source${fixed ? sql`` : sql`, ${key(sql`workspace_id`)} AS key`}
          FROM due ORDER BY ${order}
        ) AS sorted
        GROUP BY ${order} ORDER BY ${order}
      ) AS used
    )`
}

/** Without this, ON CONFLICT DO UPDATE would wait for somebody who deletes or locks the row of a source. */
const busySources = ({ column, many }: IdSql) => sql`
    locked_sources AS MATERIALIZED (
      SELECT workspace_id, source, day FROM ${WORKSPACE_USAGE_DAY}
      WHERE workspace_id = ANY (${many(REST)})
      FOR NO KEY UPDATE SKIP LOCKED
    ),
    busy AS MATERIALIZED (
      SELECT ARRAY (
        SELECT DISTINCT ${column(sql`workspace_id`)} FROM (
          SELECT workspace_id, source, day FROM ${WORKSPACE_USAGE_DAY} WHERE workspace_id = ANY (${many(REST)})
          EXCEPT SELECT workspace_id, source, day FROM locked_sources
        ) AS not_locked
      ) AS ids
    )`
