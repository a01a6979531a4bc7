import type { ShardsLeft } from '../flush/shards-left.ts'
import { addressOf, type Shard } from './shards.ts'

const MOVING = 'Citus is moving these shards; the next flush looks again'

/** Why a shard was left. */
interface Failure {
  shard: Shard
  message: string
}

/** Those of the shards at which something has failed. */
export function failures(
  shards: readonly Shard[],
  ended: readonly PromiseSettledResult<unknown>[],
): Failure[] {
  return ended.flatMap((end, index) =>
    end.status === 'rejected' ? [{ shard: shards[index]!, message: messageOf(end.reason) }] : [],
  )
}

/** Tells which shards a flush has left, and why: one entry for each node and reason. */
export function leftOf(moving: readonly Shard[], failed: readonly Failure[]): ShardsLeft[] {
  const left = [...moving.map(shard => ({ shard, message: MOVING })), ...failed]
  const groups = Map.groupBy(left, ({ shard, message }) => JSON.stringify([addressOf(shard.node), message]))
  return [...groups.values()].map(some => ({
    node: addressOf(some[0]!.shard.node),
    shards: some.length,
    message: some[0]!.message,
  }))
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
