import { type RawBuilder, sql } from 'kysely'
import type { IdSql } from './id-sql.ts'
import { notBusy, type Taken, usedAt } from './lock-workspaces.ts'
import { WORKSPACES } from './tables.ts'

/** Part of the statement: moves `last_used_at` of the workspaces that are locked and settled. */
export function update(ids: IdSql, how: Taken): RawBuilder<unknown> {
  const { column, many } = ids
  return sql`
    -- The workspaces that move forward. OFFSET keeps the planner from searching for each time more than once.
    forward AS NOT MATERIALIZED (
      SELECT * FROM (
        SELECT *, ${usedAt(ids)} AS used_at FROM locked WHERE ${notBusy(how, ids)} OFFSET 0
      ) AS used
      WHERE used_at IS NOT NULL AND (last_used_at IS NULL OR last_used_at < used_at OR last_used_at = 'infinity')
    ),
    older AS MATERIALIZED (
      SELECT array_agg(id) AS ids, count(*) AS workspaces,
        max(last_used_at) FILTER (WHERE last_used_at < 'infinity') AS was
      FROM forward
    ),
    -- The rows are found by id, not by ctid. A workspace that was updated between this statement's snapshot and its
    -- lock has a new ctid. PostgreSQL finds its newest version by id. By ctid the mark would be lost.
    updated AS (
      UPDATE ${WORKSPACES} SET last_used_at = ${usedAt(ids)}
      WHERE id = ANY (${many(sql`(SELECT ids FROM older)`)})
      RETURNING ${column(sql`id`)} AS id, last_used_at
    ),
    written AS MATERIALIZED (
      SELECT count(*) + (SELECT workspaces FROM moved) AS workspaces,
        -- Whether each was used later than any of them was before.
        count(last_used_at) = (SELECT workspaces FROM older) AND (
          count(*) = 0 OR max(last_used_at) < 'infinity'
          AND min(last_used_at) > coalesce((SELECT was FROM older), '-infinity')
        ) AS later
      FROM updated
    ),
    was AS MATERIALIZED (
      SELECT array_agg(key) AS keys, array_agg(last_used_at) AS last_used_at
      FROM (SELECT ${ids.key(sql`id`)} AS key, last_used_at FROM locked ORDER BY 1) AS sorted
    )`
}

/**
 * SQL of the workspaces whose update a trigger cancelled. Mostly nothing has to be compared one by one.
 */
export function unmoved({ key }: IdSql): RawBuilder<unknown> {
  const was = sql`(SELECT last_used_at FROM was)[width_bucket(${key(sql`id`)}, (SELECT keys FROM was))]`
  return sql`CASE
        WHEN (SELECT later FROM written) THEN ARRAY[]::text[]
        ELSE ARRAY (
          SELECT id::text FROM forward
          EXCEPT SELECT id::text FROM updated WHERE last_used_at IS DISTINCT FROM ${was}
        )
      END`
}
