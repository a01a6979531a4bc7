import { type RawBuilder, sql } from 'kysely'
import { executeSql } from '../database/compile.ts'
import type { Connection } from '../database/connection.ts'
import { asIsoText } from '../database/timestamp.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { type IdSql, idSql } from './id-sql.ts'
import { PENDING_USAGE, SET_ASIDE_USAGE } from './tables.ts'
import { EVERYTHING, type KeyRange, type Place } from './walk.ts'

/** Which marks a flush takes. */
export type Taking =
  /** Marks of closed periods that no flush has looked at. */
  | {
      from: 'pending'
      batchSize: number
      oldestFirst: boolean
      among?: Batch
      /** Where to look for them, in ascending order. Default: everywhere. */
      ranges?: readonly KeyRange[]
      /** Of the sources on one side of this one only. */
      beside?: Beside
    }
  /** Held or awaited marks, or those of a use until a time that has come. Those that have waited for longest come first. */
  | { from: 'set aside'; reason: 'held' | 'awaited' | 'until'; batchSize: number; among?: Batch }
  /** The marks of refused workspaces. */
  | { from: 'refused'; among: Batch }

/**
 * The sources on one side of one that floods the table. `<` and `>` are conditions of the index, which are checked
 * without a look at the rows. `<>` is not.
 */
export interface Beside {
  source: string
  side: 'below' | 'above'
}

/** A part of the marks that a flush would take. */
export interface Batch {
  ids: readonly string[]
  /** The first and the last place in flush order. Without them the scan would go on to the end of the table. */
  bounds?: readonly [from: Place, to: Place]
}

/** The marks that are due: `due (place, period_end, workspace_id, source, used_from)`. */
export function dueMarks(taking: Taking, ids: IdSql): RawBuilder<unknown> {
  const id = ids.column(sql`workspace_id`)
  switch (taking.from) {
    case 'pending':
      return sql`
    -- This order is that of the primary key, mostly read backwards, so LIMIT stops the scan. With the newest period
    -- first, the first batch that has a workspace sets its final value, and later ones only delete marks of it. Another
    -- flush settles the rows that it has locked, so they are skipped here.
    due AS MATERIALIZED (${pending(taking, ids, sql`FOR UPDATE SKIP LOCKED`)}
    )`
    case 'set aside':
      return sql`
    -- Those that this very transaction has set aside are not taken again.
    due AS MATERIALIZED (
      SELECT ctid AS place, period_end, ${id} AS workspace_id, source, used_from
      FROM ${SET_ASIDE_USAGE}
      WHERE reason = ${sql.lit(taking.reason)} AND next_attempt_at <= now() ${within(taking.among, ids)}
      ORDER BY next_attempt_at
      LIMIT ${taking.batchSize}
      FOR UPDATE SKIP LOCKED
    )`
    case 'refused':
      return sql`
    due AS MATERIALIZED (
      SELECT ctid AS place, period_end, ${id} AS workspace_id, source, used_from
      FROM ${SET_ASIDE_USAGE}
      WHERE reason = 'refused' ${within(taking.among, ids)}
      FOR UPDATE SKIP LOCKED
    )`
  }
}

/** Part of the flush statement: where its batch ended, and whether it has taken all that it saw until there. */
export function edgeOfBatch(taking: Taking & { from: 'pending' }, ids: IdSql): RawBuilder<unknown> {
  const last = (marks: RawBuilder<unknown>, value = PLACE) =>
    sql`(SELECT ${value} FROM ${marks} ${inFlushOrder(!taking.oldestFirst)} LIMIT 1)`
  // Only the database can compare places, because texts and sources are in an order that this machine may not know.
  const range = sql.join(
    taking.ranges!.map(
      ({ from }) => sql`((period_end, workspace_id, source) >= ${place(from, ids)})::integer`,
    ),
    sql` + `,
  )
  return sql`
    visible AS MATERIALIZED (${pending(taking, ids, sql``)}
    ),
    edge AS MATERIALIZED (
      SELECT ${last(sql`due`)} AS place, ${last(sql`due`, range)} - 1 AS range,
        (SELECT count(*) FROM due) = (SELECT count(*) FROM visible)
          AND ${last(sql`due`)}::text IS NOT DISTINCT FROM ${last(sql`visible`)}::text AS complete
    )`
}

/** The marks in the ranges, in flush order. Each range is a scan of its own, and is not begun if the batch is full. */
function pending(
  taking: Taking & { from: 'pending' },
  ids: IdSql,
  locking: RawBuilder<unknown>,
): RawBuilder<unknown> {
  const { among, beside, batchSize, oldestFirst, ranges = [EVERYTHING] } = taking
  const scans = (oldestFirst ? ranges : ranges.toReversed()).map(
    range => sql`
        SELECT ctid AS place, period_end, ${ids.column(sql`workspace_id`)} AS workspace_id, source,
          NULL::timestamptz AS used_from
        FROM ONLY ${PENDING_USAGE}
        WHERE period_end <= statement_timestamp() ${inRange(range, ids)} ${besideOf(beside)} ${within(among, ids)}
        ${inFlushOrder(oldestFirst)}
        LIMIT ${batchSize}
        ${locking}`,
  )
  if (scans.length === 1) return scans[0]!
  const all = sql.join(
    scans.map(scan => sql`SELECT * FROM (${scan}) AS scan`),
    sql` UNION ALL `,
  )
  return sql`SELECT * FROM (${all}) AS marks LIMIT ${batchSize}`
}

function inRange(range: KeyRange, ids: IdSql): RawBuilder<unknown> {
  if (range === EVERYTHING) return sql``
  const until =
    range.until === null ? sql`` : sql`AND (period_end, workspace_id, source) <= ${place(range.until, ids)}`
  return sql`AND (period_end, workspace_id, source) >= ${place(range.from, ids)} ${until}`
}

function besideOf(flood: Beside | undefined): RawBuilder<unknown> {
  if (!flood) return sql``
  return flood.side === 'below'
    ? sql`AND source < ${flood.source}::text`
    : sql`AND source > ${flood.source}::text`
}

function inFlushOrder(oldestFirst: boolean): RawBuilder<unknown> {
  return oldestFirst
    ? sql`ORDER BY period_end, workspace_id, source`
    : sql`ORDER BY period_end DESC, workspace_id DESC, source DESC`
}

function within(batch: Batch | undefined, ids: IdSql): RawBuilder<unknown> {
  if (!batch) return sql``
  const among = sql`AND workspace_id = ANY (${ids.many([...batch.ids])})`
  if (!batch.bounds) return among
  const [from, to] = batch.bounds.map(bound => place(bound, ids))
  return sql`${among} AND (period_end, workspace_id, source) BETWEEN ${from} AND ${to}`
}

function place([periodEnd, workspaceId, source]: Place, ids: IdSql): RawBuilder<unknown> {
  return sql`(${periodEnd}::timestamptz, ${ids.one(workspaceId)}, ${source}::text)`
}

/** A place in JSON. The time has all its digits, and no setting changes its form. Null if it has another form. */
const PLACE = sql`CASE WHEN period_end >= '1970-01-01Z' AND period_end < '9999-01-01Z'
        THEN json_build_array(${sql.raw(asIsoText('period_end'))}, workspace_id::text, source) END`

/** Lists the workspaces of the marks that a flush would take now, and where these marks are. It locks the marks. */
export async function dueBatch(
  connection: Connection,
  taking: Taking,
  idType: WorkspaceIdType,
): Promise<Batch> {
  if (taking.from === 'refused') return taking.among
  const { rows } = await executeSql(
    connection,
    sql<{ batch: string }>`
      WITH ${dueMarks(taking, idSql(idType))}, key AS (
        SELECT workspace_id, json_build_array(
            CASE WHEN isfinite(period_end) THEN ${sql.raw(asIsoText('period_end'))} ELSE period_end::text END,
            workspace_id::text, source
          ) AS place,
          row_number() OVER (ORDER BY period_end, workspace_id, source) AS first,
          row_number() OVER (ORDER BY period_end DESC, workspace_id DESC, source DESC) AS last
        FROM due
      )
      SELECT json_build_object(
        'ids', ARRAY (SELECT workspace_id::text FROM key GROUP BY workspace_id ORDER BY workspace_id),
        'bounds', ARRAY (SELECT place FROM key WHERE first = 1 OR last = 1 ORDER BY first)
      )::text AS batch`,
  )
  const { ids, bounds } = JSON.parse(rows[0]!.batch) as { ids: string[]; bounds: Place[] }
  if (taking.from === 'set aside' || bounds.length === 0) return { ids }
  return { ids, bounds: [bounds[0]!, bounds.at(-1)!] }
}
