import { sql } from 'kysely'
import { executeSql } from '../database/compile.ts'
import type { Connection } from '../database/connection.ts'
import type { FlushResult } from '../flush/flush.ts'
import { add, emptyResult, settleAll } from '../flush/flush-within.ts'
import type { SettleSettings } from '../flush/settle.ts'
import type { FlushCounts } from '../flush/statement.ts'
import { PENDING_USAGE, REFUSED_USAGE, SET_ASIDE_USAGE, SHARD_WITNESS } from '../flush/tables.ts'
import { noteFlush } from '../flush/witness.ts'
import { leftOf } from './left-shards.ts'
import { ShardCalls } from './shard-calls.ts'
import { noticeShardReset } from './shard-reset.ts'
import { lockShards, shardsOf } from './shards.ts'
import { noteSourcesOf } from './sources.ts'

/**
 * One flush of a distributed database: the same as on a single server, on each shard, all at once. Each shard commits by
 * itself. What can't be reached is left, with its marks.
 *
 * @param coordinator An open transaction on the coordinator. It keeps the shards where they are until it ends, and
 *   notes what the flush has done. Whether it commits does not matter to the marks.
 * @throws The error of the first shard, if all have failed.
 */
export async function flushShards(coordinator: Connection, settings: SettleSettings): Promise<FlushResult> {
  const unlocked = await lockShards(coordinator)
  const all = await shardsOf(coordinator)
  const shards = all.filter(({ id }) => unlocked.has(id))
  // Two flushes that try the same refused workspace would forget what the other one has found.
  const retries = await isFirst(coordinator)
  const ended = await new ShardCalls(coordinator).onEach(shards, shard =>
    flushShard(shard, settings, retries),
  )
  const failed = ended.filter(end => end.status === 'rejected')
  if (failed.length > 0 && failed.length === shards.length) throw failed[0]!.reason
  const flushed = ended.flatMap((end, index) =>
    end.status === 'fulfilled' ? [{ ...end.value, shard: shards[index]! }] : [],
  )
  const result = emptyResult()
  for (const { result: some } of flushed) {
    add(result, { counts: [some], refusals: some.refusals })
    result.full ||= some.full
  }
  const emptied = flushed.filter(({ witnessed }) => !witnessed).map(({ shard }) => shard)
  result.reset = await noticeShardReset(coordinator, emptied, settings.idType)
  result.emptied = result.reset !== null
  await noteSourcesOf(
    coordinator,
    flushed.flatMap(({ counts }) => counts),
  )
  await noteFlush(coordinator, result)
  return { ...result, shardsLeft: leftOf(all, shards, ended) }
}

/** What was done on one shard. */
interface FlushedShard {
  result: FlushResult
  counts: readonly FlushCounts[]
  /** Whether its witness was there: no marks were lost since the last flush. */
  witnessed: boolean
}

/** To plan the statement takes some milliseconds. So it is sent only where there is something to do. */
async function flushShard(
  shard: Connection,
  settings: SettleSettings,
  retries: boolean,
): Promise<FlushedShard> {
  const { rows } = await executeSql(shard, LOOK)
  const { due, witnessed } = rows[0]!
  if (!due) return { result: emptyResult(), counts: [], witnessed }
  return { ...(await settleAll(shard, { ...settings, onShard: true }, retries)), witnessed }
}

const LOOK = sql<{ due: boolean; witnessed: boolean }>`
  SELECT EXISTS (SELECT FROM ONLY ${PENDING_USAGE} WHERE period_end <= statement_timestamp())
    OR EXISTS (SELECT FROM ${SET_ASIDE_USAGE} WHERE next_attempt_at <= statement_timestamp())
    OR EXISTS (SELECT FROM ${REFUSED_USAGE} WHERE next_attempt_at <= statement_timestamp()) AS due,
    EXISTS (SELECT FROM ${SHARD_WITNESS}) AS witnessed`

async function isFirst(coordinator: Connection): Promise<boolean> {
  const { rows } = await executeSql(
    coordinator,
    sql<{ first: string }>`
      SELECT pg_try_advisory_xact_lock(hashtext('workspace-usage'), hashtext('retries'))::text AS first`,
  )
  return rows[0]!.first === 'true'
}
