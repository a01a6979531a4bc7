import type { FlushResult } from '../flush/flush.ts'
import type { Logger } from '../logger.ts'

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

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /** Logs a flush that has committed. */
  flushed({ result, durationMs }: FinishedFlush): void {
    const { flushed, workspaces, updated, unknown, held } = result
    const duration = { durationMs: Math.round(durationMs * 10) / 10 }
    const counts = { flushed, workspaces, updated, unknown, held, ...duration }
    if (result.emptied) this.#emptied()
    this.#worksAgain()
    if (flushed > 0) this.#logger.info(counts, 'updated workspaces last_used_at')
    else if (held > 0)
      this.#logger.info(counts, 'held marks of workspaces that another transaction has locked')
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
  #emptied(): void {
    this.#logger.warn(
      {},
      'pending_usage was emptied by a crash of the server or the promotion of a standby: marks made before it and ' +
        'not flushed by then are lost',
    )
  }

  #worksAgain(): void {
    if (this.#consecutiveErrors === 0) return
    this.#logger.info({ consecutiveErrors: this.#consecutiveErrors }, 'flush works again')
    this.#consecutiveErrors = 0
  }
}
