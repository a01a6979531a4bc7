import { type RawBuilder, sql } from 'kysely'
import type { Taking } from './due-marks.ts'
import type { IdSql } from './id-sql.ts'

/**
 * Whether the key of `workspace_id` is in a sorted array. In an empty array the bucket is 0, and the element there is
 * null.
 */
export function isAmong(keys: RawBuilder<unknown>, { key }: IdSql): RawBuilder<boolean> {
  const wanted = key(sql`workspace_id`)
  return sql`(${wanted} IS NOT DISTINCT FROM ${keys}[width_bucket(${wanted}, ${keys})])`
}

/** The workspaces of the marks that are due. */
export const WANTED = sql`(SELECT ids FROM wanted)`
/** Of them, the keys of those that the database refuses. */
export const REFUSED = sql`(SELECT keys FROM refused)`

/** Part of the flush statement: locks the workspaces, and waits for nobody. */
export function lock({ from }: Taking, careful: boolean, ids: IdSql): RawBuilder<unknown> {
  const { fixed, key, column, many, noIds, noKeys } = ids
  const id = sql`workspace_id`
  // The retry of refused workspaces is the only one that tries them.
  const refused =
    from === 'refused'
      ? sql`SELECT ${noKeys} AS keys`
      : sql`
        SELECT ARRAY (
          SELECT ${key(id)} FROM refused_usage
          WHERE workspace_id = ANY (ARRAY (SELECT DISTINCT workspace_id FROM due)) ORDER BY ${key(id)}
        ) AS keys`
  const exact = fixed
    ? sql``
    : sql`, (SELECT count(DISTINCT workspace_id) = count(DISTINCT ${key(id)}) FROM due) AS exact`
  return sql`
    refused AS MATERIALIZED (${refused}),
    wanted AS MATERIALIZED (
      SELECT ARRAY (SELECT DISTINCT workspace_id FROM due WHERE NOT ${isAmong(REFUSED, ids)}) AS ids${exact}
    ),
    -- Two writers that update the same workspaces in different orders can deadlock. With SKIP LOCKED the flush waits
    -- for nobody. "= ANY (array)" makes the planner search the index for a sorted array, instead of scanning all
    -- workspaces.
    locked AS MATERIALIZED (
      SELECT ${column(sql`id`)} AS id, last_used_at FROM workspaces
      WHERE id = ANY (${many(WANTED)})
      ${careful ? sql`FOR UPDATE SKIP LOCKED` : sql`FOR NO KEY UPDATE SKIP LOCKED`}
    ),
    ${careful ? busySources(ids) : sql`busy AS MATERIALIZED (SELECT ${noIds} AS ids)`}`
}

/** Without this, ON CONFLICT DO UPDATE would wait for somebody who deletes or locks the row of a source. */
const busySources = ({ column, many }: IdSql) => sql`
    locked_sources AS MATERIALIZED (
      SELECT workspace_id, source, day FROM workspace_usage_day
      WHERE workspace_id = ANY (${many(WANTED)})
      FOR NO KEY UPDATE SKIP LOCKED
    ),
    busy AS MATERIALIZED (
      SELECT ARRAY (
        SELECT DISTINCT ${column(sql`workspace_id`)} FROM (
          SELECT workspace_id, source, day FROM workspace_usage_day WHERE workspace_id = ANY (${many(WANTED)})
          EXCEPT SELECT workspace_id, source, day FROM locked_sources
        ) AS not_locked
      ) AS ids
    )`
