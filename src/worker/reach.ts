import { sqlState } from '../database/sql-state.ts'
import type { Logger } from '../logger.ts'

/** When something was asked, as {@link Reach} counts. */
export type Question = number & { readonly question: unique symbol }

/**
 * Says once when a worker can't reach its database, and once when it can again. A worker asks for jobs up to twice a
 * second, and each of pg-boss's tasks fails in its own way meanwhile.
 *
 * Connections don't break at the same moment. So what became of a question that was asked before the last change tells
 * nothing new: the answer to it may have been on its way already, and its failure may be noticed only now.
 */
export class Reach {
  readonly #logger: Logger
  readonly #onLost: (error: unknown) => void
  #awaySince: number | null = null
  #changes = 0
  #isStarted = false

  /** @param onLost Called when that is logged. */
  constructor(logger: Logger, onLost: (error: unknown) => void = () => {}) {
    this.#logger = logger
    this.#onLost = onLost
  }

  /** The worker runs. Before that nothing is told, because a start that fails tells its caller. */
  started(): void {
    this.#isStarted = true
  }

  /** Whether the last statement found no database. */
  get away(): boolean {
    return this.#awaySince !== null
  }

  /** Something is asked of the database now. Its outcome is told with what this returns. */
  ask(): Question {
    return this.#changes as Question
  }

  /** A statement failed. An error of the statement itself says nothing about the database. */
  failed(question: Question, error: unknown): void {
    if (isOutOfReach(error)) this.lost(question, error)
  }

  /** There was no connection, for whatever reason. */
  lost(question: Question, error: unknown): void {
    if (!this.#isStarted || this.#awaySince !== null || question !== this.#changes) return
    this.#changes++
    this.#awaySince = performance.now()
    this.#logger.warn({ err: error }, 'the database is out of reach; marks stay pending until it is back')
    this.#onLost(error)
  }

  /** The database answered a statement. */
  answered(question: Question): void {
    if (this.#awaySince === null || question !== this.#changes) return
    this.#changes++
    const outageSeconds = Math.round((performance.now() - this.#awaySince) / 100) / 10
    this.#awaySince = null
    this.#logger.info({ outageSeconds }, 'the database is within reach again')
  }
}

/** An error without SQLSTATE is not from the database. Then a socket failed, or nobody answered. */
function isOutOfReach(error: unknown): boolean {
  const state = sqlState(error)
  // Class 08 is a connection exception. The server is stopping, has crashed, is starting, has no place left.
  return state === undefined || state.startsWith('08') || ['57P01', '57P02', '57P03', '53300'].includes(state)
}
