import type { Connection } from '../database/connection.ts'
import { checkOptions, type OptionRules, whatever, YES_OR_NO } from '../options.ts'
import { FLUSH_OPTIONS, type FlushOptions, type FlushResult, flush } from './flush.ts'
import { add, emptyResult } from './flush-within.ts'
import { retryAllRefused } from './retry-all.ts'

/** Options of {@link drain}. */
export interface DrainOptions extends Omit<FlushOptions, 'oldestFirst'> {
  /**
   * Whether to try all refused workspaces again, also those whose next attempt is not due yet. Default false. It is for
   * somebody who has just repaired something.
   */
  retryRefused?: boolean
  /** Called after each flush, so that a caller can show progress. */
  onFlush?: (result: FlushResult) => void
}

/** What a drain did: the sums of its flushes. A workspace counts once for each flush that has marks of it. */
export interface DrainResult extends Omit<FlushResult, 'full'> {
  /** The number of flushes, at least one. `shardsLeft` is that of the last one. */
  flushes: number
}

const { oldestFirst: _, ...COMMON_OPTIONS } = FLUSH_OPTIONS

const DRAIN_OPTIONS: OptionRules<DrainOptions> = {
  ...COMMON_OPTIONS,
  retryRefused: YES_OR_NO,
  onFlush: whatever('a function', value => typeof value === 'function'),
}

/**
 * Flushes until only marks that are set aside are left in closed periods: held, awaited and refused ones. Each flush is
 * a transaction of its own. Call it outside a transaction. Inside one, every flushed workspace stays locked until that
 * transaction ends.
 *
 * Every second flush takes the oldest period first. So a flood of new marks does not keep the old ones waiting.
 *
 * @throws {InvalidOptionError} If an option is out of its range; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 * @throws What {@link flush} throws. Flushes before that one have committed.
 */
export async function drain(connection: Connection, options: DrainOptions = {}): Promise<DrainResult> {
  checkOptions(options, DRAIN_OPTIONS)
  const { onFlush, retryRefused = false, ...flushOptions } = options
  const { full: _, ...nothing } = emptyResult()
  const total: DrainResult = { flushes: 0, ...nothing }
  for (let full = true; full; ) {
    const result = await flush(connection, { ...flushOptions, oldestFirst: total.flushes % 2 === 1 })
    total.flushes += 1
    total.emptied ||= result.emptied
    total.reset ??= result.reset
    if (result.shardsLeft) total.shardsLeft = result.shardsLeft
    add(total, { counts: [result], refusals: result.refusals })
    onFlush?.(result)
    full = result.full
  }
  if (retryRefused) {
    for await (const retried of retryAllRefused(connection, flushOptions)) add(total, retried)
  }
  return total
}
