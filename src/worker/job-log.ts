import { sqlState } from '../database/sql-state.ts'
import type { Logger } from '../logger.ts'

/** Says once for each kind of error that jobs can't be taken, until a flush has committed again. */
export class JobLog {
  readonly #logger: Logger
  readonly #told = new Set<string | undefined>()

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /**
   * Taking a job failed, or telling pg-boss what became of it. The database itself is within reach.
   *
   * @returns Whether it was told.
   */
  failed(error: unknown): boolean {
    const kind = sqlState(error)
    if (this.#told.has(kind)) return false
    this.#told.add(kind)
    this.#logger.error({ err: error }, 'flush jobs can not be taken; it is tried again')
    return true
  }

  /** A flush has committed. */
  works(): void {
    if (this.#told.size > 0) this.#logger.info({}, 'flush jobs are taken again')
    this.#told.clear()
  }
}
