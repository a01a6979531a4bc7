import { type RawBuilder, sql } from 'kysely'
import type { IdSql } from './id-sql.ts'
import { BUSY, isAmong, REFUSED, REST } from './lock-workspaces.ts'
import { WORKSPACES } from './tables.ts'

export const HELD = sql`(SELECT keys FROM held)`
const UNKNOWN = sql`(SELECT keys FROM unknown)`

/** Nothing is settled if two ids of the batch have the same key. */
export const unlessExact = ({ fixed }: IdSql) =>
  fixed ? sql`` : sql`WHEN NOT (SELECT exact FROM used_workspace) THEN 'held'`

/**
 * Part of the statement: `mark`, which is `due` and what becomes of each. Mostly all workspaces are taken, and no mark
 * is judged by itself then.
 */
export function classify(unknownAfterSeconds: number, ids: IdSql): RawBuilder<unknown> {
  const { fixed, key, many, noIds, noKeys } = ids
  return sql`
    missing AS MATERIALIZED (
      SELECT CASE WHEN (SELECT workspaces FROM found) = cardinality(${REST}) THEN ${noIds}
        ELSE ARRAY (SELECT unnest(${REST}) EXCEPT SELECT id FROM locked) END AS ids
    ),
    -- These workspaces exist, but we could not lock them: another transaction holds them.
    held AS MATERIALIZED (
      SELECT ARRAY (
        SELECT ${key(sql`id`)} FROM ${WORKSPACES} WHERE id = ANY (${many(sql`(SELECT ids FROM missing)`)})
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
    usual AS MATERIALIZED (
      SELECT ids = ${noIds} AND ${BUSY} = ${noIds} AND ${REFUSED} = ${noKeys}
        ${fixed ? sql`` : sql`AND coalesce((SELECT exact FROM used_workspace), true)`} AS usual
      FROM missing
    ),
    -- A mark is young by the time of this transaction, because a snapshot may be as old as that.
    judged AS MATERIALIZED (
      SELECT place, period_end, workspace_id, source, used_from, CASE ${unlessExact(ids)}
        WHEN ${isAmong(REFUSED, ids)} THEN 'refused'
        WHEN ${isAmong(HELD, ids)} THEN 'held'
        WHEN NOT ${isAmong(UNKNOWN, ids)} THEN 'flushed'
        WHEN period_end > now() - make_interval(secs => ${unknownAfterSeconds}) THEN 'awaited'
        ELSE 'unknown'
      END AS fate
      FROM due WHERE NOT (SELECT usual FROM usual)
    ),
    mark AS NOT MATERIALIZED (
      SELECT place, period_end, workspace_id, source, used_from, 'flushed' AS fate
      FROM due WHERE (SELECT usual FROM usual)
      UNION ALL SELECT * FROM judged
    )`
}
