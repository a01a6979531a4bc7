import type { Logger } from '../logger.ts'

/** The marks that a tracker could not keep, or no longer takes. Each kind is logged once, not at every mark. */
export class LostMarks {
  /** Marks lost because too many ids were waiting. */
  dropped = 0
  readonly #logger: Logger
  #dropLogged = false
  #lateMarkLogged = false

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /** Records that a mark is lost because `maxPending` ids wait. Logs the first one of an outage. */
  drop(maxPending: number, consecutiveErrors: number): void {
    this.dropped++
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
