import { type RawBuilder, sql } from 'kysely'
import { type Connection, execute } from '../database/connection.ts'
import { explainDatabaseError } from '../database/sql-state.ts'
import { InvalidOptionError } from '../errors.ts'

/**
 * Rows per flush unless said otherwise. A workspace that is flushed stays locked until the transaction ends, and an
 * application's own UPDATE of it waits as long: with this batch that is about 50 ms on two cores (README, "Figures").
 */
export const DEFAULT_BATCH_SIZE = 1_500

/** The largest `batchSize` that is accepted. */
export const MAX_BATCH_SIZE = 100_000

/** Options of {@link flush}. */
export interface FlushOptions {
  /**
   * Marks to take at most: an integer from 1 to {@link MAX_BATCH_SIZE}. Default {@link DEFAULT_BATCH_SIZE}. Larger
   * batches cost less per mark and lock their workspaces for longer.
   */
  batchSize?: number
  /**
   * Whether to keep `workspace_usage`, the last use by source. Default true. False makes a flush cheaper, and leaves
   * "who used it?" to the marks that are still pending.
   */
  sources?: boolean
  /** Takes only marks behind this one in flush order: {@link FlushResult.resume} of the batch before. */
  resume?: FlushPosition | null
}

/** A mark's place in flush order (newest period first); plain values, so that a job can carry it. */
export interface FlushPosition {
  /** `period_end` in ISO 8601, UTC, to the microsecond (a `Date` would lose three digits). */
  periodEnd: string
  workspaceId: string
  source: string
}

/** What one flush did, in counts. `flushed + held` is what it found due, at most `batchSize`. */
export interface FlushResult {
  /** Marks consumed: deleted from `pending_usage`. */
  flushed: number
  /** Distinct workspaces among the marks consumed, those that do not exist left out. */
  workspaces: number
  /** Rows of `workspaces` whose `last_used_at` moved forward. */
  updated: number
  /** Marks consumed whose workspace does not exist (deleted, or never created). */
  unknown: number
  /** Marks left pending because another transaction holds their workspace; the next flush takes them. */
  held: number
  /** Whether the batch was full, so that more may be due. */
  full: boolean
  /**
   * Where the next flush of a drain goes on. Null if it may start from the top, which it may unless marks were held:
   * they come first in flush order, and a batch full of them would find nothing else.
   */
  resume: FlushPosition | null
}

/**
 * Moves up to `batchSize` marks of closed periods into `workspaces` and `workspace_usage`: one statement, which never
 * waits for another transaction. Run by itself it is its own transaction; inside one, it commits with that.
 *
 * @param connection Where the statement runs; the role needs what `workspace-usage grant --worker` gives.
 * @throws {InvalidOptionError} If an option is out of its range; nothing is sent then.
 * @throws {NotMigratedError} If a table of this package is missing.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function flush(connection: Connection, options: FlushOptions = {}): Promise<FlushResult> {
  const { batchSize = DEFAULT_BATCH_SIZE, sources = true, resume = null } = options
  assertBatchSize(batchSize)
  const row = await runFlush(connection, flushStatement(batchSize, sources, resume))
  const due = row.flushed + row.held
  const { flushed, workspaces, updated, unknown, held } = row
  const full = due >= batchSize
  const last =
    row.last_period_end === null
      ? null
      : {
          periodEnd: row.last_period_end,
          workspaceId: row.last_workspace_id!,
          source: row.last_source!,
        }
  return {
    flushed,
    workspaces,
    updated,
    unknown,
    held,
    full,
    resume: full && (held > 0 || resume) ? last : null,
  }
}

async function runFlush(connection: Connection, statement: RawBuilder<FlushRow>): Promise<FlushRow> {
  try {
    const { rows } = await execute(connection, statement)
    return rows[0]!
  } catch (error) {
    throw explainDatabaseError(error)
  }
}

/** @throws {InvalidOptionError} Unless it is an integer from 1 to {@link MAX_BATCH_SIZE}. */
export function assertBatchSize(batchSize: number): void {
  if (!Number.isInteger(batchSize) || batchSize < 1 || batchSize > MAX_BATCH_SIZE) {
    throw new InvalidOptionError('batchSize', batchSize, `an integer from 1 to ${MAX_BATCH_SIZE}`)
  }
}

interface FlushRow {
  flushed: number
  workspaces: number
  updated: number
  unknown: number
  held: number
  last_period_end: string | null
  last_workspace_id: string | null
  last_source: string | null
}

/**
 * The flush. No two sets of rows in it are ever joined: what the planner believes about `pending_usage` is of another
 * moment (it is emptied and filled every minute), and once it believes it almost empty, it joins by nested loops, which
 * took seconds for 5,000 rows. Instead one set becomes a sorted array, in which `width_bucket` finds a value by
 * binary search.
 *
 * - `due`: newest period first, so that after an outage the first batch sets the final value and the later ones only
 *   delete. The order is the primary key read backwards, so LIMIT stops the scan. Rows that another flush has locked
 *   are its to consume, and are skipped.
 * - `locked`: without this lock, two multi-row writers of `workspaces` that go in different orders deadlock; with
 *   SKIP LOCKED neither waits. `= ANY (array)` makes the planner descend the index once with a sorted array instead of
 *   scanning all workspaces.
 * - `held`: due, not locked by us, and there. What is not there is consumed as unknown.
 * - `consumed`: pending rows are never updated, so the ctid that the locking scan returned is still theirs.
 * - `updated`: by id and not by ctid. A workspace that changed between this statement's snapshot and its lock has
 *   moved; by id PostgreSQL follows it to its newest version, by ctid the mark would be lost.
 * - `by_source`: the workspace row is locked, so nobody can delete it under the foreign key's check, and no other
 *   flush touches its sources.
 */
function flushStatement(
  batchSize: number,
  sources: boolean,
  resume: FlushPosition | null,
): RawBuilder<FlushRow> {
  const behind =
    resume === null
      ? sql``
      : sql`AND (period_end, workspace_id, source)
          < (${resume.periodEnd}::timestamptz, ${resume.workspaceId}::uuid, ${resume.source}::text)`
  const bySource = sql`,
    by_source AS (
      INSERT INTO workspace_usage AS u (workspace_id, source, last_used_at)
      SELECT workspace_id, source, max(period_end)
      FROM consumed
      WHERE NOT ${isAmong(UNKNOWN)}
      GROUP BY workspace_id, source
      ON CONFLICT (workspace_id, source) DO UPDATE SET last_used_at = excluded.last_used_at
      WHERE u.last_used_at < excluded.last_used_at
    )`
  const usedAt = sql`(SELECT used_at FROM latest)[width_bucket(id, (SELECT ids FROM latest))]`
  return sql<FlushRow>`
    WITH due AS MATERIALIZED (
      SELECT ctid AS place, period_end, workspace_id, source
      FROM pending_usage
      WHERE period_end <= statement_timestamp() ${behind}
      ORDER BY period_end DESC, workspace_id DESC, source DESC
      LIMIT ${batchSize}
      FOR UPDATE SKIP LOCKED
    ),
    locked AS MATERIALIZED (
      SELECT id FROM workspaces
      WHERE id = ANY (ARRAY (SELECT DISTINCT workspace_id FROM due))
      FOR NO KEY UPDATE SKIP LOCKED
    ),
    missing AS MATERIALIZED (
      SELECT ARRAY (SELECT workspace_id FROM due EXCEPT SELECT id FROM locked) AS ids
    ),
    held AS MATERIALIZED (
      SELECT ARRAY (
        SELECT id FROM workspaces WHERE id = ANY ((SELECT ids FROM missing)::uuid[]) ORDER BY id
      ) AS ids
    ),
    unknown AS MATERIALIZED (
      SELECT ARRAY (SELECT unnest(ids) FROM missing EXCEPT SELECT unnest(ids) FROM held ORDER BY 1) AS ids
    ),
    consumed AS (
      DELETE FROM pending_usage
      WHERE ctid = ANY (ARRAY (SELECT place FROM due WHERE NOT ${isAmong(HELD)}))
      RETURNING workspace_id, source, period_end
    ),
    latest AS MATERIALIZED (
      SELECT array_agg(workspace_id ORDER BY workspace_id) AS ids, array_agg(used_at ORDER BY workspace_id) AS used_at
      FROM (
        SELECT workspace_id, max(period_end) AS used_at
        FROM consumed
        WHERE NOT ${isAmong(UNKNOWN)}
        GROUP BY workspace_id
      ) AS known
    ),
    updated AS (
      UPDATE workspaces SET last_used_at = ${usedAt}
      WHERE id = ANY ((SELECT ids FROM latest)::uuid[])
        AND (last_used_at IS NULL OR last_used_at < ${usedAt})
      RETURNING 1
    )${sources ? bySource : sql``},
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
}

const HELD = sql`(SELECT ids FROM held)`
const UNKNOWN = sql`(SELECT ids FROM unknown)`

/** Whether `workspace_id` is in a sorted array. In an empty one, the bucket is 0, and what is there is null. */
function isAmong(ids: RawBuilder<unknown>): RawBuilder<boolean> {
  return sql`(workspace_id IS NOT DISTINCT FROM ${ids}[width_bucket(workspace_id, ${ids})])`
}
