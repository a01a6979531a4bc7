import { type RawBuilder, sql } from 'kysely'
import type { IdSql } from './id-sql.ts'
import { notBusy, usedAt } from './lock-workspaces.ts'

/** Part of the statement: moves `last_used_at` of the marks that are settled. */
export function update(ids: IdSql, how: { careful: boolean; inPlace: boolean }): RawBuilder<unknown> {
  const { inPlace } = how
  const { column, many } = ids
  return sql`
    -- The workspaces that move forward. Some hosts store 'infinity' for one that was never used. OFFSET keeps the
    -- planner from searching for each time more than once.
    forward AS NOT MATERIALIZED (
      SELECT * FROM (
        SELECT *, ${usedAt(ids)} AS used_at FROM locked WHERE ${notBusy(how, ids)} OFFSET 0
      ) AS used
      WHERE used_at IS NOT NULL AND (last_used_at IS NULL OR last_used_at < used_at OR last_used_at = 'infinity')
    ),
    older AS MATERIALIZED (
      SELECT array_agg(${inPlace ? sql`place` : sql`id`}) AS places, count(*) AS workspaces,
        max(last_used_at) FILTER (WHERE last_used_at < 'infinity') AS was
      FROM forward
    ),
    ${inPlace ? updateInPlace(ids) : sql``}
    -- The rows are found by id, not by ctid. A workspace that was updated between this statement's snapshot and its
    -- lock has a new ctid. PostgreSQL finds its newest version by id. By ctid the mark would be lost.
    ${inPlace ? sql`updated_by_id` : sql`updated`} AS (
      UPDATE workspaces SET last_used_at = ${usedAt(ids)}
      WHERE id = ANY (${many(inPlace ? sql`(SELECT ids FROM not_in_place)` : sql`(SELECT places FROM older)`)})
      RETURNING ${column(sql`id`)} AS id, last_used_at
    ),
    ${inPlace ? sql`updated AS NOT MATERIALIZED (SELECT * FROM updated_in_place UNION ALL SELECT * FROM updated_by_id),` : sql``}
    written AS MATERIALIZED (
      SELECT sum(workspaces)::integer AS workspaces,
        -- Whether each was used later than any of them was before.
        sum(used) = (SELECT workspaces FROM older) AND max(last) < 'infinity'
          AND min(first) > coalesce((SELECT was FROM older), '-infinity') AS later
      FROM (${inPlace ? sql`SELECT * FROM in_place UNION ALL ${sums(sql`updated_by_id`)}` : sums(sql`updated`)}) AS part
    ),
    was AS MATERIALIZED (
      SELECT array_agg(key) AS keys, array_agg(last_used_at) AS last_used_at
      FROM (SELECT ${ids.key(sql`id`)} AS key, last_used_at FROM locked ORDER BY 1) AS sorted
    )`
}

const sums = (rows: RawBuilder<unknown>) => sql`
        SELECT count(*) AS workspaces, count(last_used_at) AS used, min(last_used_at) AS first, max(last_used_at) AS last
        FROM ${rows}`

/**
 * In a table, rows are found by `ctid`, where they were locked. This saves the second search in the index, which costs
 * as much as the whole update.
 */
const updateInPlace = (ids: IdSql) => sql`
    updated_in_place AS (
      UPDATE ONLY workspaces SET last_used_at = ${usedAt(ids)}
      WHERE ctid = ANY ((SELECT places FROM older)::tid[])
      RETURNING ${ids.column(sql`id`)} AS id, last_used_at
    ),
    in_place AS MATERIALIZED (${sums(sql`updated_in_place`)}),
    not_in_place AS MATERIALIZED (
      SELECT CASE WHEN (SELECT workspaces FROM in_place) = workspaces THEN ${ids.noIds}
        ELSE ARRAY (SELECT id FROM forward EXCEPT SELECT id FROM updated_in_place) END AS ids
      FROM older
    ),`

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
