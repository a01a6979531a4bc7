import type { Connection } from '../database/connection.ts'
import type { FlushResult } from './flush.ts'
import type { HalvingResult } from './halving.ts'
import type { Refusal } from './refusal.ts'
import { dueRefusals, forgetOlderMarksOfRefused, retryRefusals } from './retry.ts'
import { dueAfter, isFull, type SettleSettings, settle, settlePending, taken } from './settle.ts'
import { addBySource, addToOthers, type MarksBySource } from './source-usage.ts'
import type { FlushCounts } from './statement.ts'
import { noteFlush } from './witness.ts'

/** Tries of refused workspaces take at most this part of the flush's time. At least one is made. */
const RETRY_SHARE = 1 / 20

/** One flush in an open transaction. */
export async function flushWithin(connection: Connection, settings: SettleSettings): Promise<FlushResult> {
  const { result, counts } = await settleAll(connection, settings)
  // Each statement has noted its own counts.
  if (counts.length !== 1) await noteFlush(connection, result)
  return result
}

/**
 * The marks that no flush has looked at, then those that were set aside, then refused workspaces. When all is well,
 * there is only the first.
 *
 * @param retries Whether to try refused workspaces again. Default true.
 * @param settled Where to add what was done. On a shard that stays, also if a later statement fails.
 */
export async function settleAll(
  connection: Connection,
  settings: SettleSettings,
  retries = true,
  settled = nothingSettled(),
): Promise<Settled> {
  const started = performance.now()
  const { result } = settled
  const addDone = (some: Pick<HalvingResult, 'counts' | 'refusals'>) => {
    settled.counts.push(...some.counts)
    add(result, some)
  }
  const { parts, full } = await settlePending(connection, settings)
  parts.forEach(addDone)
  result.full = full
  const { untilDue, heldDue, awaitedDue, refusedDue } = dueAfter(parts.at(-1)!)
  // A long chain of full batches looks at awaited marks in every second batch.
  const again = [
    untilDue && 'until',
    heldDue && 'held',
    awaitedDue && (!full || settings.oldestFirst) && 'awaited',
  ] as const
  for (const reason of again) {
    if (!reason) continue
    const some = await settle(connection, { from: 'set aside', reason, ...settings }, settings)
    addDone(some)
    result.full ||= isFull(some, settings) && taken(some, ['flushed']) > 0
  }
  if (retries && refusedDue && !result.full) {
    const budgetMs = (performance.now() - started) * RETRY_SHARE
    const ids = await dueRefusals(connection)
    if (ids.length > 0) addDone(await retryRefusals(connection, ids, settings, budgetMs))
  }
  if (result.refused > 0) await forgetOlderMarksOfRefused(connection)
  return settled
}

/** What was done, in all and by statement. */
export interface Settled {
  result: FlushResult
  counts: FlushCounts[]
}

export function nothingSettled(): Settled {
  return { result: emptyResult(), counts: [] }
}

/** A result of which nothing is done yet. */
export function emptyResult(): FlushResult {
  const counts = { flushed: 0, workspaces: 0, updated: 0, unknown: 0, held: 0, awaited: 0, refused: 0 }
  return { ...counts, bySource: {}, refusals: [], emptied: false, reset: null, full: false }
}

const COUNTED = ['flushed', 'workspaces', 'updated', 'unknown', 'held', 'awaited', 'refused'] as const

type Counted = (typeof COUNTED)[number] | 'bySource'

/** A statement tells the largest sources only. */
function allBySource({ bySource, flushed }: Pick<FlushCounts, Counted>): MarksBySource {
  const named = Object.values(bySource).reduce((sum, marks) => sum + marks, 0)
  return flushed > named ? addToOthers(bySource, flushed - named) : bySource
}

/** Adds what was done to a result. */
export function add(
  result: Omit<FlushResult, 'full'>,
  { counts, refusals }: { counts: readonly Pick<FlushCounts, Counted>[]; refusals: Refusal[] },
): void {
  for (const name of COUNTED) {
    for (const count of counts) result[name] += count[name]
  }
  result.bySource = addBySource([result.bySource, ...counts.map(allBySource)])
  result.refusals.push(...refusals)
}
