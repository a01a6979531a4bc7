import type { Connection } from '../database/connection.ts'
import type { AttemptOptions } from '../flush/attempt.ts'
import { type RetryResult, refusalsAfter, retryRefusals } from '../flush/retry.ts'
import { ShardCalls, throwIfAllFailed } from './shard-calls.ts'
import { takeShards } from './shards.ts'
import { ignoredSources, noteSourcesOf } from './sources.ts'

/**
 * Tries each refused workspace of a distributed database once. While another flush tries them, nothing is done.
 *
 * @throws The error of the first shard, if all have failed.
 */
export async function retryAllOnShards(
  coordinator: Connection,
  options: AttemptOptions,
): Promise<RetryResult> {
  const { shards, retries } = await takeShards(coordinator)
  const total: RetryResult = { counts: [], refusals: [], tried: 0 }
  if (!retries) return total
  const settings = { ...options, onShard: true, ignored: await ignoredSources(coordinator) }
  const ended = await new ShardCalls(coordinator).onEach(shards, async shard => {
    for (let last: string | null = null; ; ) {
      const ids: string[] = await refusalsAfter(shard, last, options.idType)
      if (ids.length === 0) return
      const { counts, refusals, tried } = await retryRefusals(shard, ids, settings, Infinity)
      total.counts.push(...counts)
      total.refusals.push(...refusals)
      total.tried += tried
      last = ids.at(-1)!
    }
  })
  throwIfAllFailed(ended)
  await noteSourcesOf(coordinator, total.counts)
  return total
}
