import type { FlushResult } from '../flush/flush.ts'
import type { Logger } from '../logger.ts'

/** What the worker's flushes did, told once each, so that a single failure is a warning and a lasting one an error. */
export class FlushLog {
  readonly #logger: Logger
  #consecutiveErrors = 0

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /** A flush has committed. Info only if it did something. */
  flushed(result: FlushResult, durationMs: number): void {
    const { flushed, workspaces, updated, unknown, held } = result
    const counts = {
      flushed,
      workspaces,
      updated,
      unknown,
      held,
      durationMs: Math.round(durationMs * 10) / 10,
    }
    this.#worksAgain()
    if (flushed > 0) this.#logger.info(counts, 'updated workspaces last_used_at')
    else if (held > 0)
      this.#logger.info(counts, 'held marks of workspaces that another transaction has locked')
    else this.#logger.debug({ durationMs: counts.durationMs }, 'nothing to flush')
  }

  /** A flush failed, wherever in it. Its marks are still pending. */
  failed(error: unknown): void {
    const consecutiveErrors = ++this.#consecutiveErrors
    if (consecutiveErrors === 1) {
      this.#logger.warn({ err: error }, 'flush failed; its marks stay pending and it is tried again')
    } else {
      this.#logger.error({ err: error, consecutiveErrors }, 'flush keeps failing; marks stay pending')
    }
  }

  /** Marks are lost that nobody will ask for again; how many is not known. */
  emptied(): void {
    this.#logger.warn(
      {},
      'pending_usage was emptied by a crash of the server or the promotion of a standby: marks made before it and ' +
        'not flushed by then are lost',
    )
  }

  #worksAgain(): void {
    if (this.#consecutiveErrors > 0) {
      this.#logger.info({ consecutiveErrors: this.#consecutiveErrors }, 'flush works again')
      this.#consecutiveErrors = 0
    }
  }
}
