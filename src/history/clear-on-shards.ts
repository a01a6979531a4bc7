import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import type { Connection, Statement } from '../database/connection.ts'
import { executeWithin, isPool } from '../database/deadline.ts'
import { transactionOn } from '../database/transaction.ts'
import type { ClearedHistory } from './clear-history.ts'

/*
 * The same where the tables are distributed. There are no pages of all shards, so a step is a day. Each shard removes its
 * own rows of that day, all of them at once, and the rows of a day that is over are not written by flushes.
 */

/** The deadline of a step, in ms. A day may have many rows. */
const STEP_TIMEOUT_MS = 10 * 60_000

/** Removes what {@link clearHistory} removes. */
export async function clearOnShards(
  connection: Connection,
  historyDays: number,
  signal: AbortSignal | undefined,
): Promise<ClearedHistory> {
  const done: ClearedHistory = { cleared: 0, orphans: 0 }
  const { rows } = await executeWithin(connection, compile(outdatedDays(historyDays)), STEP_TIMEOUT_MS)
  for (const { day } of rows) {
    if (signal?.aborted) return done
    done.cleared += await remove(connection, compile(clearDay(day)))
  }
  if (signal?.aborted) return done
  done.cleared += await remove(connection, compile(SUPERSEDED))
  const { rows: tables } = await executeWithin(connection, compile(WITHOUT_KEY), STEP_TIMEOUT_MS)
  for (const { name } of tables) {
    if (signal?.aborted) return done
    done.orphans += await remove(connection, compile(removeOrphans(name)))
  }
  return done
}

const outdatedDays = (historyDays: number) => sql<{ day: string }>`
  SELECT DISTINCT to_char(day, 'YYYY-MM-DD') AS day FROM workspace_usage_day
  WHERE day < (statement_timestamp() AT TIME ZONE 'UTC')::date - ${historyDays}::integer ORDER BY 1`

/** The last use of a source stays: the row with the latest time, and of equal ones the later day. */
const clearDay = (day: string) => sql`
  DELETE FROM workspace_usage_day u WHERE u.day = ${day}::date AND EXISTS (
    SELECT 1 FROM workspace_usage_day d
    WHERE d.workspace_id = u.workspace_id AND d.source = u.source
      AND (d.last_used_at, d.day) > (u.last_used_at, u.day)
  )`

const SUPERSEDED = sql`
  DELETE FROM workspace_usage u WHERE EXISTS (
    SELECT 1 FROM workspace_usage_day d
    WHERE d.workspace_id = u.workspace_id AND d.source = u.source AND d.last_used_at >= u.last_used_at
  )`

const WITHOUT_KEY = sql<{ name: string }>`
  SELECT name FROM unnest(ARRAY['workspace_usage_day', 'workspace_usage']) AS name
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = name::regclass AND contype = 'f')`

const removeOrphans = (table: string) => sql`
  DELETE FROM ${sql.id(table)} u WHERE u.last_used_at < statement_timestamp() - interval '1 day' AND NOT EXISTS (
    SELECT 1 FROM workspaces w WHERE w.id = u.workspace_id
  )`

async function remove(connection: Connection, statement: Statement<unknown>): Promise<number> {
  const step = (on: Connection) => executeWithin(on, statement, STEP_TIMEOUT_MS)
  // A pool may begin its transactions in another way than we need.
  const { affected } = isPool(connection)
    ? await transactionOn(connection, STEP_TIMEOUT_MS, transaction => step(transaction.connection))
    : await step(connection)
  return affected ?? 0
}
