import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { asIsoText } from '../database/timestamp.ts'

/** Which marks a flush takes. */
export type Taking =
  /** Marks of closed periods that no flush has looked at. */
  | { from: 'pending'; batchSize: number; oldestFirst: boolean; among?: Batch }
  /** Held and awaited marks. Those that have waited for longest come first. */
  | { from: 'set aside'; batchSize: number; among?: Batch }
  /** The marks of refused workspaces. */
  | { from: 'refused'; among: Batch }

/** A part of the marks that a flush would take. */
export interface Batch {
  ids: readonly string[]
  /** The first and the last place in flush order. Without them the scan would go on to the end of the table. */
  bounds?: readonly [from: MarkPlace, to: MarkPlace]
}

/** The key of a mark in JSON. The time has all its digits, and no setting changes its form. */
type MarkPlace = string

/** The marks that are due: `due (place, period_end, workspace_id, source)`. */
export function dueMarks(taking: Taking): RawBuilder<unknown> {
  switch (taking.from) {
    case 'pending':
      return sql`
    -- This order is that of the primary key, mostly read backwards, so LIMIT stops the scan. With the newest period
    -- first, the first batch that has a workspace sets its final value, and later ones only delete marks of it. Another
    -- flush settles the rows that it has locked, so they are skipped here.
    due AS MATERIALIZED (
      SELECT ctid AS place, period_end, workspace_id, source
      FROM ONLY pending_usage
      WHERE period_end <= statement_timestamp() ${within(taking.among)}
      ${inFlushOrder(taking.oldestFirst)}
      LIMIT ${taking.batchSize}
      FOR UPDATE SKIP LOCKED
    )`
    case 'set aside':
      return sql`
    -- Those that this very transaction has set aside are not taken again.
    due AS MATERIALIZED (
      SELECT ctid AS place, period_end, workspace_id, source
      FROM set_aside_usage
      WHERE reason <> 'refused' AND next_attempt_at <= now() ${within(taking.among)}
      ORDER BY next_attempt_at
      LIMIT ${taking.batchSize}
      FOR UPDATE SKIP LOCKED
    )`
    case 'refused':
      return sql`
    due AS MATERIALIZED (
      SELECT ctid AS place, period_end, workspace_id, source
      FROM set_aside_usage
      WHERE reason = 'refused' ${within(taking.among)}
      FOR UPDATE SKIP LOCKED
    )`
  }
}

function inFlushOrder(oldestFirst: boolean): RawBuilder<unknown> {
  return oldestFirst
    ? sql`ORDER BY period_end, workspace_id, source`
    : sql`ORDER BY period_end DESC, workspace_id DESC, source DESC`
}

function within(batch: Batch | undefined): RawBuilder<unknown> {
  if (!batch) return sql``
  const ids = sql`AND workspace_id = ANY (${[...batch.ids]}::uuid[])`
  if (!batch.bounds) return ids
  const [from, to] = batch.bounds.map(place)
  return sql`${ids} AND (period_end, workspace_id, source) BETWEEN ${from} AND ${to}`
}

function place(key: MarkPlace): RawBuilder<unknown> {
  return sql`((${key}::json ->> 0)::timestamptz, (${key}::json ->> 1)::uuid, ${key}::json ->> 2)`
}

/** Lists the workspaces of the marks that a flush would take now, and where these marks are. It locks the marks. */
export async function dueBatch(connection: Connection, taking: Taking): Promise<Batch> {
  if (taking.from === 'refused') return taking.among
  const { rows } = await execute(
    connection,
    compile(sql<{ batch: string }>`
      WITH ${dueMarks(taking)}, key AS (
        SELECT workspace_id, json_build_array(${sql.raw(asIsoText('period_end'))}, workspace_id, source)::text AS place,
          row_number() OVER (ORDER BY period_end, workspace_id, source) AS first,
          row_number() OVER (ORDER BY period_end DESC, workspace_id DESC, source DESC) AS last
        FROM due
      )
      SELECT json_build_object(
        'ids', ARRAY (SELECT DISTINCT workspace_id FROM key ORDER BY workspace_id),
        'bounds', ARRAY (SELECT place FROM key WHERE first = 1 OR last = 1 ORDER BY first)
      )::text AS batch`),
  )
  const { ids, bounds } = JSON.parse(rows[0]!.batch) as { ids: string[]; bounds: string[] }
  if (taking.from === 'set aside' || bounds.length === 0) return { ids }
  return { ids, bounds: [bounds[0]!, bounds.at(-1)!] }
}
