import type { Connection } from '../database/connection.ts'
import type { OpenTransaction } from '../database/transaction.ts'
import { attemptFlush } from './attempt.ts'
import type { Taking } from './due-marks.ts'
import type { FlushResult, FlushSettings } from './flush.ts'
import { flushByHalves, type HalvingResult } from './halving.ts'
import type { Refusal } from './refusal.ts'
import { noticeReset } from './reset.ts'
import { dueRefusals, forgetOlderMarksOfRefused, retryRefusals } from './retry.ts'
import { prepare } from './settings.ts'
import { addBySource, addToOthers, type MarksBySource } from './source-usage.ts'
import type { FlushCounts } from './statement.ts'
import { look, noteUnsettled } from './unsettled.ts'
import { Walk } from './walk.ts'
import { noteFlush } from './witness.ts'

/** Tries of refused workspaces take at most this part of the flush's time. At least one is made. */
const RETRY_SHARE = 1 / 20

/**
 * One flush in an open transaction: the marks that no flush has looked at, then those that were set aside, then a
 * refused workspace. When all is well, there is only the first.
 */
export async function flushWithin(
  transaction: OpenTransaction,
  settings: FlushSettings,
): Promise<FlushResult> {
  const { connection } = transaction
  const started = performance.now()
  const reset = await noticeReset(connection)
  const result: FlushResult = { ...emptyResult(), emptied: reset?.emptied ?? false, reset }
  const restore = await prepare(transaction, settings.timeoutSeconds * 1_000)
  let done = 0
  const addDone = (some: Pick<HalvingResult, 'counts' | 'refusals'>) => {
    done += some.counts.length
    add(result, some)
  }
  const pending = await settlePending(connection, settings)
  addDone(pending)
  result.full = isFull(pending, settings)
  const { setAsideDue, refusedDue } = lastOf(pending)
  // A long chain of full batches looks at the marks aside in every second batch.
  if (setAsideDue && (!result.full || settings.oldestFirst)) {
    const again = await settle(connection, { from: 'set aside', ...settings }, settings)
    addDone(again)
    result.full ||= isFull(again, settings) && taken(again, ['flushed']) > 0
  }
  if (refusedDue && !result.full) {
    const budgetMs = (performance.now() - started) * RETRY_SHARE
    const ids = await dueRefusals(connection)
    if (ids.length > 0) addDone(await retryRefusals(connection, ids, settings, budgetMs))
  }
  if (result.refused > 0) await forgetOlderMarksOfRefused(connection)
  // Each statement has noted its own counts.
  if (done !== 1) await noteFlush(connection, result)
  if (transaction.callers) await restore()
  return result
}

/** Settles a batch of the marks that no flush has looked at. Among many dead rows, it walks where there may be marks. */
async function settlePending(connection: Connection, settings: FlushSettings): Promise<HalvingResult> {
  const taking: Taking = { from: 'pending', batchSize: settings.batchSize, oldestFirst: settings.oldestFirst }
  const seen = await look(connection)
  if (seen === null) return await settle(connection, taking, settings)
  const walk = new Walk(seen)
  const settled = await settle(connection, { ...taking, ranges: walk.ranges }, settings)
  const edge = settled.counts.length === 1 ? settled.counts[0]!.edge : undefined
  if (edge?.complete && !seen.keepsSnapshot) {
    const full = isFull(settled, settings)
    if (full && edge.place === null) return settled
    const now = walk.noteAfter({ ...settings, edge: full ? edge.place : null })
    await noteUnsettled(connection, seen.noted, now)
  }
  return settled
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

async function settle(
  connection: Connection,
  taking: Taking,
  settings: FlushSettings,
): Promise<HalvingResult> {
  const attempt = await attemptFlush(connection, taking, settings)
  if ('counts' in attempt) return { counts: [attempt.counts], refusals: [], complete: true }
  return await flushByHalves(connection, taking, attempt, settings)
}

function isFull(result: HalvingResult, { batchSize }: FlushSettings): boolean {
  return !result.complete || taken(result, ['flushed', 'held', 'awaited', 'refused']) >= batchSize
}

function taken(
  { counts }: HalvingResult,
  fates: readonly ('flushed' | 'held' | 'awaited' | 'refused')[],
): number {
  return counts.reduce((sum, count) => sum + fates.reduce((marks, fate) => marks + count[fate], 0), 0)
}

/** After a halving that flushed nothing, there are no counts. */
function lastOf({ counts }: HalvingResult): Pick<FlushCounts, 'setAsideDue' | 'refusedDue'> {
  return counts.at(-1) ?? { setAsideDue: false, refusedDue: false }
}
