import { sql } from 'kysely'
import { executeSql } from '../database/compile.ts'
import type { Connection } from '../database/connection.ts'
import type { FlushResult } from '../flush/flush.ts'
import { add, emptyResult, nothingSettled, settleAll } from '../flush/flush-within.ts'
import type { SettleSettings } from '../flush/settle.ts'
import { PENDING_USAGE, REFUSED_USAGE, SET_ASIDE_USAGE, SHARD_WITNESS } from '../flush/tables.ts'
import { noteFlush } from '../flush/witness.ts'
import { failures, leftOf } from './left-shards.ts'
import { ShardCalls, throwIfAllFailed } from './shard-calls.ts'
import { noticeShardReset } from './shard-reset.ts'
import { takeShards } from './shards.ts'
import { ignoredSources, noteSourcesOf } from './sources.ts'

/**
 * One flush of a distributed database: the same as on a single server, on each shard, all at once. Each shard commits by
 * itself. What can't be reached is left, with its marks.
 *
 * @param coordinator An open transaction on the coordinator. It keeps the shards where they are until it ends, and
 *   notes what the flush has done. Whether it commits does not matter to the marks.
 * @throws The error of the first shard, if all have failed.
 */
export async function flushShards(coordinator: Connection, options: SettleSettings): Promise<FlushResult> {
  const { all, shards, retries } = await takeShards(coordinator)
  const calls = new ShardCalls(coordinator)
  const looks = await calls.onEach(shards, async connection => (await executeSql(connection, LOOK)).rows[0]!)
  throwIfAllFailed(looks)
  // Before anything is done: this writes on other nodes, and may fail.
  const emptied = shards.filter((_, index) => seen(looks[index]!)?.witnessed === false)
  const reset = await noticeShardReset(coordinator, calls, emptied, options.idType)
  const settings = { ...options, onShard: true, ignored: await ignoredSources(coordinator) }
  const due = shards.filter((_, index) => seen(looks[index]!)?.due)
  const flushed = due.map(() => nothingSettled())
  const ended = await calls.onEach(due, (connection, index) =>
    settleAll(connection, settings, retries, flushed[index]!),
  )
  throwIfAllFailed(ended)
  const result = { ...emptyResult(), reset, emptied: reset !== null }
  for (const { result: some } of flushed) {
    add(result, { counts: [some], refusals: some.refusals })
    result.full ||= some.full
  }
  await noteSourcesOf(
    coordinator,
    flushed.flatMap(({ counts }) => counts),
  )
  await noteFlush(coordinator, result)
  const moving = all.filter(shard => !shards.includes(shard))
  return { ...result, shardsLeft: leftOf(moving, [...failures(shards, looks), ...failures(due, ended)]) }
}

/** What is seen of a shard at first. The flush is planned for some milliseconds, so it is sent only where it is due. */
interface Seen {
  due: boolean
  /** Without its witness, the marks of the shard were lost since the last flush. */
  witnessed: boolean
}

function seen(look: PromiseSettledResult<Seen>): Seen | undefined {
  return look.status === 'fulfilled' ? look.value : undefined
}

const LOOK = sql<Seen>`
  SELECT EXISTS (SELECT FROM ONLY ${PENDING_USAGE} WHERE period_end <= statement_timestamp())
    OR EXISTS (SELECT FROM ${SET_ASIDE_USAGE} WHERE next_attempt_at <= statement_timestamp())
    OR EXISTS (SELECT FROM ${REFUSED_USAGE} WHERE next_attempt_at <= statement_timestamp()) AS due,
    EXISTS (SELECT FROM ${SHARD_WITNESS}) AS witnessed`
