import { retryAllOnShards } from '../citus/retry-shards.ts'
import type { Connection } from '../database/connection.ts'
import { isDistributed } from '../database/distributed.ts'
import { transactionOn } from '../database/transaction.ts'
import { workspaceIdType } from '../database/workspace-id-type.ts'
import { ANSWER_GRACE_MS, type FlushOptions, flushSettings } from './flush.ts'
import { type RetryResult, refusalsAfter, retryRefusals } from './retry.ts'
import { prepare } from './settings.ts'

/** How long one transaction tries refused workspaces, in ms. Those that succeed stay locked meanwhile. */
const BUDGET_MS = 250

/** Tries each refused workspace once, in short transactions. */
export async function* retryAllRefused(
  connection: Connection,
  options: FlushOptions,
): AsyncGenerator<RetryResult> {
  const settings = flushSettings(options)
  const timeoutMs = settings.timeoutSeconds * 1_000
  if (await isDistributed(connection)) {
    yield await transactionOn(connection, timeoutMs + ANSWER_GRACE_MS, async transaction => {
      const restore = await prepare(transaction, timeoutMs)
      const idType = await workspaceIdType(transaction.connection)
      const result = await retryAllOnShards(transaction.connection, { ...settings, idType })
      await restore()
      return result
    })
    return
  }
  for (let last: string | null = null, done = false; !done; ) {
    const from: string | null = last
    yield await transactionOn(connection, timeoutMs + ANSWER_GRACE_MS, async transaction => {
      const restore = await prepare(transaction, timeoutMs)
      const idType = await workspaceIdType(transaction.connection)
      const ids = await refusalsAfter(transaction.connection, from, idType)
      done = ids.length === 0
      if (done) return { counts: [], refusals: [], tried: 0 }
      const result = await retryRefusals(transaction.connection, ids, { ...settings, idType }, BUDGET_MS)
      last = ids[result.tried - 1] ?? null
      await restore()
      return result
    })
  }
}
