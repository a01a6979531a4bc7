import { sql } from 'kysely'
import { executeSql } from '../database/compile.ts'
import type { Connection } from '../database/connection.ts'
import type { FlushResult } from '../flush/flush.ts'
import { add, emptyResult, nothingSettled, type Settled, settleAll } from '../flush/flush-within.ts'
import type { SettleSettings } from '../flush/settle.ts'
import { PENDING_USAGE, REFUSED_USAGE, SET_ASIDE_USAGE, SHARD_WITNESS } from '../flush/tables.ts'
import { noteFlush } from '../flush/witness.ts'
import { leftOf } from './left-shards.ts'
import { ShardCalls, throwIfAllFailed } from './shard-calls.ts'
import { noticeShardReset } from './shard-reset.ts'
import { takeShards } from './shards.ts'
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
  const { all, shards, retries } = await takeShards(coordinator)
  const flushed = shards.map(shard => ({ shard, witnessed: true, ...nothingSettled() }))
  const ended = await new ShardCalls(coordinator).onEach(shards, (connection, index) =>
    flushShard(connection, settings, retries, flushed[index]!),
  )
  throwIfAllFailed(ended)
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

/** What was done on a shard. Without a witness its marks were lost since the last flush. */
type FlushedShard = Settled & { witnessed: boolean }

/** To plan the statement takes some milliseconds. So it is sent only where there is something to do. */
async function flushShard(
  connection: Connection,
  settings: SettleSettings,
  retries: boolean,
  flushed: FlushedShard,
): Promise<void> {
  const { rows } = await executeSql(connection, LOOK)
  flushed.witnessed = rows[0]!.witnessed
  if (rows[0]!.due) await settleAll(connection, { ...settings, onShard: true }, retries, flushed)
}

const LOOK = sql<{ due: boolean; witnessed: boolean }>`
  SELECT EXISTS (SELECT FROM ONLY ${PENDING_USAGE} WHERE period_end <= statement_timestamp())
    OR EXISTS (SELECT FROM ${SET_ASIDE_USAGE} WHERE next_attempt_at <= statement_timestamp())
    OR EXISTS (SELECT FROM ${REFUSED_USAGE} WHERE next_attempt_at <= statement_timestamp()) AS due,
    EXISTS (SELECT FROM ${SHARD_WITNESS}) AS witnessed`
