import type { Logger } from '../logger.ts'
import type { MarkCounts } from './mark-counts.ts'

/** The marks that a tracker could not keep, or no longer takes. Each kind is logged once, not at every mark. */
export class LostMarks {
  readonly #logger: Logger
  readonly #counts: MarkCounts
  #dropLogged = false
  #lateMarkLogged = false

  /** @param counts Where the marks are counted that are dropped. */
  constructor(logger: Logger, counts: MarkCounts) {
    this.#logger = logger
    this.#counts = counts
  }

  /** Records that a mark is lost because `maxPending` ids wait. Logs the first one of an outage. */
  drop(maxPending: number, consecutiveErrors: number): void {
    this.#counts.dropped++
    if (this.#dropLogged) return
    this.#dropLogged = true
    this.#logger.error(
      { maxPending, consecutiveErrors },
      'more than maxPending workspaces wait to be marked; further ones are lost until the database is back',
    )
  }

  /** Records that no mark waits any more. The next one that is dropped is logged again. */
  noneWaits(): void {
    this.#dropLogged = false
  }

  /** Logs the first mark that came after `close`. */
  ignore(workspaceId: string): void {
    if (this.#lateMarkLogged) return
    this.#lateMarkLogged = true
    this.#logger.error({ workspaceId }, 'developer error: mark called after close')
  }
}
