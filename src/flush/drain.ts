import type { Connection } from '../database/connection.ts'
import { checkOptions, type OptionRules, whatever } from '../options.ts'
import { FLUSH_OPTIONS, type FlushOptions, type FlushPosition, type FlushResult, flush } from './flush.ts'

/** Options of {@link drain}. */
export interface DrainOptions extends Omit<FlushOptions, 'resume'> {
  /** Called after each flush, so that a caller can show progress. */
  onFlush?: (result: FlushResult) => void
}

/** What a drain did: the sums of its flushes. A workspace counts once for each flush that has marks of it. */
export interface DrainResult extends Omit<FlushResult, 'full' | 'resume'> {
  /** The number of flushes, at least one. */
  flushes: number
}

const { resume: _, ...COMMON_OPTIONS } = FLUSH_OPTIONS

const DRAIN_OPTIONS: OptionRules<DrainOptions> = {
  ...COMMON_OPTIONS,
  onFlush: whatever('a function', value => typeof value === 'function'),
}

/**
 * Flushes until only held marks are left in closed periods. Each flush is a transaction of its own. Call it outside a
 * transaction. Inside one, every flushed workspace stays locked until that transaction ends.
 *
 * @throws {InvalidOptionError} If an option is out of its range; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 * @throws What {@link flush} throws. Flushes before that one have committed.
 */
export async function drain(connection: Connection, options: DrainOptions = {}): Promise<DrainResult> {
  checkOptions(options, DRAIN_OPTIONS)
  const { onFlush, ...flushOptions } = options
  const total: DrainResult = { flushes: 0, flushed: 0, workspaces: 0, updated: 0, unknown: 0, held: 0 }
  let resume: FlushPosition | null = null
  for (;;) {
    const result: FlushResult = await flush(connection, { ...flushOptions, resume })
    total.flushes += 1
    total.flushed += result.flushed
    total.workspaces += result.workspaces
    total.updated += result.updated
    total.unknown += result.unknown
    total.held += result.held
    onFlush?.(result)
    if (!result.full) return total
    resume = result.resume
  }
}
