import type { FlushResult } from '../flush/flush.ts'
import type { Refusal } from '../flush/refusal.ts'
import type { ResetReason, UsageReset } from '../flush/reset.ts'
import type { Logger } from '../logger.ts'

/** The most refused workspaces that are logged for one flush. */
const MOST_REFUSALS = 20

/** The share of marks that counts as nearly all. */
const NEARLY_ALL = 0.9

/** Fewer awaited marks are no news. Somebody is just creating their workspaces. */
const FEWEST_AWAITED = 3

const LOST = 'marks that were not flushed by then are lost'

const EMPTIED: Record<ResetReason, string> = {
  crash: `pending_usage was emptied by a crash of the server: ${LOST}`,
  promotion: `pending_usage was emptied by the promotion of a standby, or a recovery to a point in time: ${LOST}`,
  restore: `pending_usage was emptied by a restore or a copy of the database without its rows: ${LOST}`,
  unknown: `pending_usage was emptied, and nothing tells by what: ${LOST}`,
}

const OLDER_DUMP =
  'the database was restored or copied: marks that were made elsewhere since then are missing here'

/** A flush that a job has run. */
export interface FinishedFlush {
  result: FlushResult
  durationMs: number
}

/**
 * Logs each flush of a worker once. A first failure is a warning, and each failure after it is an error. A flush that
 * finds no due mark is only logged at debug level.
 */
export class FlushLog {
  readonly #logger: Logger
  #consecutiveErrors = 0
  /** Flushes of which nearly all marks were of workspaces that do not exist, one after the other. */
  #flushesOfUnknown = 0

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /** Logs a flush that has committed. */
  flushed({ result, durationMs }: FinishedFlush): void {
    const { refusals, reset, shardsLeft = [], emptied: _, full: __, ...marks } = result
    const duration = { durationMs: Math.round(durationMs * 10) / 10 }
    const counts = { ...marks, ...duration }
    if (reset) this.#lost(reset)
    this.#worksAgain()
    this.#refused(refusals)
    for (const left of shardsLeft) this.#logger.warn({ ...left }, 'the marks of some shards stay pending')
    const unknown = this.#isNearlyAllUnknown(result)
    if (unknown) this.#nearlyAllUnknown(counts)
    if (result.flushed > 0) this.#logger.info(counts, 'updated workspaces last_used_at')
    else if (result.held > 0)
      this.#logger.info(counts, 'held marks of workspaces that another transaction has locked')
    else if (result.awaited + result.refused > 0 && !unknown) this.#logger.info(counts, 'marks are set aside')
    else this.#logger.debug(duration, 'nothing to flush')
  }

  /** Logs a flush that has failed, at any step. Its marks are still pending. */
  failed(error: unknown): void {
    const consecutiveErrors = ++this.#consecutiveErrors
    if (consecutiveErrors === 1) {
      this.#logger.warn({ err: error }, 'flush failed; its marks stay pending and it is tried again')
    } else {
      this.#logger.error({ err: error, consecutiveErrors }, 'flush keeps failing; marks stay pending')
    }
  }

  /** The number of lost marks is not known. */
  #lost({ reason, emptied, ...times }: UsageReset): void {
    this.#logger.warn({ reason, ...times }, emptied ? EMPTIED[reason] : OLDER_DUMP)
  }

  /** Each attempt is logged. The pauses between the attempts grow. */
  #refused(refusals: readonly Refusal[]): void {
    for (const { message, ...refusal } of refusals.slice(0, MOST_REFUSALS)) {
      this.#logger.warn(
        { ...refusal, reason: message },
        'the database refuses the update of a workspace; its marks are set aside and tried again',
      )
    }
    const more = refusals.length - MOST_REFUSALS
    if (more > 0) this.#logger.warn({ more }, 'the database refuses the update of more workspaces')
  }

  #isNearlyAllUnknown({ flushed, unknown, held, awaited, refused }: FlushResult): boolean {
    const share = (unknown + awaited) / (flushed + held + awaited + refused)
    const isSo = share >= NEARLY_ALL && (unknown > 0 || awaited >= FEWEST_AWAITED)
    if (!isSo && flushed > unknown) this.#flushesOfUnknown = 0
    return isSo
  }

  /** Logged at the first such flush, the second, the fourth, the eighth and so on. */
  #nearlyAllUnknown(counts: object): void {
    const flushes = ++this.#flushesOfUnknown
    if (Number.isInteger(Math.log2(flushes))) {
      this.#logger.warn(
        { ...counts, flushes },
        'nearly all marks are of workspaces that do not exist: is "workspaces" the right table, and do markers pass its ids?',
      )
    }
  }

  #worksAgain(): void {
    if (this.#consecutiveErrors === 0) return
    this.#logger.info({ consecutiveErrors: this.#consecutiveErrors }, 'flush works again')
    this.#consecutiveErrors = 0
  }
}
