import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { A_CONNECTION, type Connection, execute } from '../database/connection.ts'
import { executeWithin, isPool } from '../database/deadline.ts'
import { isDistributed } from '../database/distributed.ts'
import { transactionOn } from '../database/transaction.ts'
import { checkOption, checkOptions, integerWithin, type OptionRules, whatever } from '../options.ts'
import { clearOnShards } from './clear-on-shards.ts'

/** The default of `historyDays`. */
export const DEFAULT_HISTORY_DAYS = 30

/** Options of {@link clearHistory}. */
export interface ClearHistoryOptions {
  /**
   * The days of history to keep, beside today (UTC): an integer from 0 to 3,660. 0 keeps none. Default
   * {@link DEFAULT_HISTORY_DAYS}.
   */
  historyDays?: number
  /** Ends it after the step that is running. */
  signal?: AbortSignal
}

/** How many days of history can be kept. */
export const HISTORY_DAYS = integerWithin(0, 3_660, 'days')

const CLEAR_OPTIONS: OptionRules<ClearHistoryOptions> = {
  historyDays: HISTORY_DAYS,
  signal: whatever('an AbortSignal', value => value instanceof AbortSignal),
}

/** What {@link clearHistory} did. */
export interface ClearedHistory {
  /** Rows of days that were too old. */
  cleared: number
  /** Rows of workspaces that no longer exist. With a foreign key to the table of workspaces there are none. */
  orphans: number
}

/** A step reads so many pages of 8 kB. That takes some ten milliseconds. */
const STEP_PAGES = 1_000

/** The deadline of a step, in ms. */
const STEP_TIMEOUT_MS = 30_000

/** A workspace may be gone because its INSERT has not committed yet. So its rows are left alone for so long. */
const ORPHANED_FOR = sql`interval '1 day'`

/**
 * Removes the history of days that are too old, and what is left of workspaces that no longer exist. The last use by each
 * source stays, however old it is.
 *
 * It walks once through the table, in steps of some pages. Each step is a transaction of its own, and skips what a flush
 * has locked. So it disturbs nobody, can be ended at any time, and can be repeated. Where the tables are distributed, a
 * step is a day.
 *
 * @param connection The role needs what `workspace-usage grant --worker` gives.
 * @throws {InvalidOptionError} If an option is out of its range; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 * @throws {NotMigratedError} If the tables do not exist.
 */
export async function clearHistory(
  connection: Connection,
  options: ClearHistoryOptions = {},
): Promise<ClearedHistory> {
  checkOption('connection', connection, A_CONNECTION)
  checkOptions(options, CLEAR_OPTIONS)
  const { historyDays = DEFAULT_HISTORY_DAYS, signal } = options
  if (await isDistributed(connection)) return await clearOnShards(connection, historyDays, signal)
  const { rows } = await execute(connection, compile(sql<Sizes>`SELECT ${SIZES}`))
  const referring = JSON.parse(rows[0]!.sizes) as { table: Table; pages: number; refers: boolean }[]
  const done: ClearedHistory = { cleared: 0, orphans: 0 }
  for (const { table, pages, refers } of referring) {
    for (let page = 0; page <= pages && !signal?.aborted; page += STEP_PAGES) {
      done.cleared += await remove(connection, table, page, outdated(table, historyDays))
      if (!refers) done.orphans += await remove(connection, table, page, ORPHANED)
    }
  }
  return done
}

type Table = 'workspace_usage_day' | 'workspace_usage'

interface Sizes {
  sizes: string
}

const SIZES = sql`json_agg(json_build_object(
  'table', name, 'pages', pg_catalog.pg_relation_size(name::regclass) / current_setting('block_size')::bigint,
  'refers', EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = name::regclass AND contype = 'f')
))::text AS sizes
FROM unnest(ARRAY['workspace_usage_day', 'workspace_usage']) AS name`

/** Rows that are too old. The last use of a source stays: the row with the latest time, and of equal ones the later day. */
function outdated(table: Table, historyDays: number): RawBuilder<unknown> {
  if (table === 'workspace_usage') {
    return sql`EXISTS (
      SELECT FROM workspace_usage_day d
      WHERE d.workspace_id = u.workspace_id AND d.source = u.source AND d.last_used_at >= u.last_used_at
    )`
  }
  return sql`u.day < (statement_timestamp() AT TIME ZONE 'UTC')::date - ${historyDays}::integer AND EXISTS (
    SELECT FROM workspace_usage_day d
    WHERE d.workspace_id = u.workspace_id AND d.source = u.source
      AND (d.last_used_at, d.day) > (u.last_used_at, u.day)
  )`
}

const ORPHANED = sql`u.last_used_at < statement_timestamp() - ${ORPHANED_FOR} AND NOT EXISTS (
  SELECT FROM workspaces w WHERE w.id = u.workspace_id
)`

/** One step. A row that is locked stays, and the next run finds it. */
async function remove(
  connection: Connection,
  table: Table,
  page: number,
  condition: RawBuilder<unknown>,
): Promise<number> {
  const from = sql.id(table)
  const place = (number: number) => sql`${`(${number},0)`}::tid`
  const statement = compile(sql<{ removed: string }>`
    WITH removed AS (
      DELETE FROM ONLY ${from} WHERE ctid = ANY (ARRAY (
        SELECT u.ctid FROM ONLY ${from} u
        WHERE u.ctid >= ${place(page)} AND u.ctid < ${place(page + STEP_PAGES)} AND ${condition}
        FOR UPDATE SKIP LOCKED
      ))
      RETURNING 1
    )
    SELECT count(*)::text AS removed FROM removed`)
  const step = (on: Connection) => executeWithin(on, statement, STEP_TIMEOUT_MS)
  // A pool may begin its transactions in another way than we need.
  const { rows } = isPool(connection)
    ? await transactionOn(connection, STEP_TIMEOUT_MS, transaction => step(transaction.connection))
    : await step(connection)
  return Number(rows[0]!.removed)
}
