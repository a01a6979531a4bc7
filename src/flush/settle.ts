import type { Connection } from '../database/connection.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { attemptFlush } from './attempt.ts'
import type { Taking } from './due-marks.ts'
import type { FlushSettings } from './flush.ts'
import { flushByHalves, type HalvingResult } from './halving.ts'
import type { FlushCounts } from './statement.ts'
import { look, noteUnsettled } from './unsettled.ts'
import { type Edge, Walk } from './walk.ts'

/** The part of the full batches that also take marks beside a flood. Each costs two passes over the index. */
const BESIDE_SHARE = 1 / 4

/** The settings of a flush, with what it has found in the database. */
export type SettleSettings = FlushSettings & {
  idType: WorkspaceIdType
  longPeriod?: boolean
  direct?: boolean
  /** Whether the connection leads to a shard. Default false. */
  onShard?: boolean
  /** On a shard: the sources whose marks do not count. */
  ignored?: readonly string[]
}

/** Flushes some marks, around the workspaces that the database refuses. */
export async function settle(
  connection: Connection,
  taking: Taking,
  settings: SettleSettings,
): Promise<HalvingResult> {
  const attempt = await attemptFlush(connection, taking, settings)
  if ('counts' in attempt) return { counts: [attempt.counts], refusals: [], complete: true }
  return await flushByHalves(connection, taking, attempt, settings)
}

/**
 * Flushes a batch of the marks that no flush has looked at. Among many dead rows, it walks only where there may be marks.
 *
 * If a source floods the table with ids that do not exist, others would wait until all of these are looked at. So now
 * and then a batch of the other sources is taken as well.
 *
 * @returns What it did, and whether the batch was full.
 */
export async function settlePending(
  connection: Connection,
  settings: SettleSettings,
): Promise<{ parts: HalvingResult[]; full: boolean }> {
  const { batchSize, oldestFirst } = settings
  // A shard has a part of the dead rows only, and no note of its own.
  const seen = settings.onShard ? null : await look(connection)
  const walk = seen && new Walk(seen)
  const taking = { from: 'pending', batchSize, oldestFirst, ...(walk && { ranges: walk.ranges }) } as const
  const settled = await settle(connection, taking, settings)
  const full = isFull(settled, settings)
  const edge = settled.counts.length === 1 ? settled.counts[0]!.edge : undefined
  if (walk && edge?.complete && !seen.keepsSnapshot && !(full && edge.place === null)) {
    const now = walk.noteAfter({ oldestFirst, edge: full ? edgeOf(edge) : null })
    await noteUnsettled(connection, seen.noted, now, settings.idType)
  }
  const parts = [settled]
  const flood = settled.counts.at(-1)?.flood ?? null
  if (full && flood !== null && Math.random() < BESIDE_SHARE) {
    for (const side of ['below', 'above'] as const) {
      parts.push(await settle(connection, { ...taking, beside: { source: flood, side } }, settings))
    }
  }
  return { parts, full }
}

function edgeOf({ place, range }: NonNullable<FlushCounts['edge']>): Edge | null {
  return place === null || range === null ? null : { place, range }
}

/** Whether a batch was full, so that there may be more. */
export function isFull(result: HalvingResult, { batchSize }: FlushSettings): boolean {
  return !result.complete || taken(result, ['flushed', 'held', 'awaited', 'refused']) >= batchSize
}

/** How many marks were taken whose fate is one of these. */
export function taken(
  { counts }: HalvingResult,
  fates: readonly ('flushed' | 'held' | 'awaited' | 'refused')[],
): number {
  return counts.reduce((sum, count) => sum + fates.reduce((marks, fate) => marks + count[fate], 0), 0)
}

/** After a halving that flushed nothing, there are no counts. */
export function dueAfter({
  counts,
}: HalvingResult): Pick<FlushCounts, 'untilDue' | 'heldDue' | 'awaitedDue' | 'refusedDue'> {
  return counts.at(-1) ?? { untilDue: false, heldDue: false, awaitedDue: false, refusedDue: false }
}
