import { sql } from 'kysely'
import { executeSql } from '../database/compile.ts'
import type { Connection } from '../database/connection.ts'
import { SHARD_WITNESS } from '../database/distributed.ts'
import { asIsoText } from '../database/timestamp.ts'
import { resetOf, type UsageReset } from '../flush/reset.ts'
import { WORKSPACE_USAGE_DAY } from '../flush/tables.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import type { ShardCalls } from './shard-calls.ts'
import { type DistributableIdType, witnessRows } from './shard-witness.ts'
import { addressOf, type Shard } from './shards.ts'

const MARKS = sql`'pending_usage'::regclass`

/**
 * Puts the witnesses of shards back that a crash of their nodes has emptied, and notes for good that marks were lost.
 *
 * @returns Null if there are none, or another flush has just done so.
 */
export async function noticeShardReset(
  coordinator: Connection,
  calls: ShardCalls,
  emptied: readonly Shard[],
  idType: WorkspaceIdType,
): Promise<UsageReset | null> {
  if (emptied.length === 0) return null
  const ids = emptied.map(({ id }) => id)
  const { rows: restored } = await executeSql(
    coordinator,
    witnessRows(sql.id(SHARD_WITNESS), MARKS, idType as DistributableIdType, ids),
  )
  if (restored.length === 0) return null
  const nodes = [...new Set(emptied.map(({ node }) => addressOf(node)))].toSorted()
  const { rows } = await executeSql(
    coordinator,
    sql<{ reset: string }>`
      WITH noticed AS (
        INSERT INTO pending_usage_reset (noticed_at, flushed_until, reason, nodes)
        SELECT clock_timestamp(), ${await flushedUntil(calls, emptied)}::timestamptz, 'crash', ${nodes}::text[]
        RETURNING noticed_at, flushed_until, reason, nodes
      )
      SELECT json_build_object(
        'reason', reason, 'completeSince', ${sql.raw(asIsoText('noticed_at'))},
        'flushedUntil', ${sql.raw(asIsoText('flushed_until'))}, 'emptied', true, 'nodes', nodes
      )::text AS reset
      FROM noticed`,
  )
  return resetOf(rows[0]!.reset)
}

/**
 * Up to when the use on these nodes had been flushed. While one was down the others went on, so only its own shards tell.
 * Shards of a node are flushed together. So the last use of any of them tells of all, and the earliest node counts.
 *
 * @returns As text. Null if a node has no flushed use.
 */
async function flushedUntil(calls: ShardCalls, emptied: readonly Shard[]): Promise<string | null> {
  const ended = await calls.onEach(
    emptied,
    async shard =>
      (
        await executeSql(
          shard,
          sql<{ last: string | null }>`
            SELECT ${sql.raw(asIsoText('max(last_used_at)'))} AS last FROM ${WORKSPACE_USAGE_DAY}`,
        )
      ).rows[0]!.last,
  )
  const ofNodes = new Map<string, string | null>()
  for (const [index, end] of ended.entries()) {
    const node = addressOf(emptied[index]!.node)
    const last = end.status === 'fulfilled' ? end.value : null
    const before = ofNodes.get(node) ?? null
    ofNodes.set(node, before === null || (last !== null && last > before) ? last : before)
  }
  const times = [...ofNodes.values()]
  return times.includes(null) ? null : (times as string[]).toSorted()[0]!
}
