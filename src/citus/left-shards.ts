import type { ShardsLeft } from '../flush/shards-left.ts'
import { addressOf, type Shard } from './shards.ts'

const MOVING = 'Citus is moving these shards; the next flush looks again'

/** Tells which shards a flush has left, and why: one entry for each node and reason. */
export function leftOf(
  all: readonly Shard[],
  tried: readonly Shard[],
  ended: readonly PromiseSettledResult<unknown>[],
): ShardsLeft[] {
  const moving = all.filter(shard => !tried.includes(shard)).map(shard => ({ shard, message: MOVING }))
  const failed = ended.flatMap((end, index) =>
    end.status === 'rejected' ? [{ shard: tried[index]!, message: messageOf(end.reason) }] : [],
  )
  const groups = Map.groupBy([...moving, ...failed], ({ shard, message }) =>
    JSON.stringify([addressOf(shard.node), message]),
  )
  return [...groups.values()].map(some => ({
    node: addressOf(some[0]!.shard.node),
    shards: some.length,
    message: some[0]!.message,
  }))
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
