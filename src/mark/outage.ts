import { sqlState } from '../database/sql-state.ts'
import type { Logger } from '../logger.ts'

const SHORTEST_PAUSE_MS = 250
const LONGEST_PAUSE_MS = 30_000
const LONGEST_PAUSE_IF_SOON_MS = 1_000

/** The classes and codes of SQLSTATE with which PostgreSQL says "not now". */
const PASSING = [
  '08', // connection exceptions
  '40', // deadlock, serialization failure
  '53', // too many connections, out of memory, disk full
  '57', // shutting down, starting up, cancelled, statement timeout, idle session timeout
  '55P03', // lock timeout
  '25006', // read-only: a standby, perhaps the old primary after a failover
  '25P03', // idle-in-transaction timeout
  '3D000', // the database does not exist yet
  '42P01', // the table does not exist yet
  '42883', // the function does not exist yet
]

/**
 * Whether the error of a statement is an outage: the database is away or busy, and the same statement may succeed soon.
 * An error without SQLSTATE is an outage too, because timeouts and broken connections of a driver or pool have none.
 * Any other error is a refusal: a missing privilege, a wrong type, a check in a trigger. Somebody has to repair that.
 */
export function isOutage(error: unknown): boolean {
  // A system error's code, such as EPIPE, may look like a SQLSTATE.
  if (error instanceof Error && 'syscall' in error) return true
  const state = sqlState(error)
  return state === undefined || PASSING.some(code => state.startsWith(code))
}

/** Counts the failures of a tracker's statements, logs them, and decides how long to pause after each. */
export class Outage {
  /** Statements that failed since the tracker was made. */
  failedAttempts = 0
  /** Statements that failed since the last one that succeeded. */
  consecutiveErrors = 0
  readonly #logger: Logger
  #pauseMs = 0
  /** The number of statements that were sent when the last failure was noticed. */
  #sentBefore = 0

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /**
   * Records that a statement failed. Of those that were under way together, the first one tells.
   *
   * @param number The number of the statement, in the order in which they were sent.
   * @param sent How many were sent so far.
   * @param pending Distinct ids that are not stored.
   * @param soon Whether to try again soon: the tracker is closing, or other marks are stored meanwhile.
   */
  learn(error: unknown, number: number, sent: number, pending: number, soon: boolean): void {
    this.failedAttempts++
    if (number <= this.#sentBefore) return
    this.#sentBefore = sent
    this.consecutiveErrors++
    const { consecutiveErrors } = this
    const passing = isOutage(error)
    const longest = longestPause(soon)
    this.#pauseMs = passing ? jitteredPause(consecutiveErrors, longest) : longest
    const fields = { err: error, consecutiveErrors, pending, retryInMs: Math.round(this.#pauseMs) }
    if (!passing) this.#logger.error(fields, 'the database refuses marks; they are kept and tried again')
    else if (consecutiveErrors > 1) this.#logger.error(fields, 'marks still fail to be stored; they are kept')
    else this.#logger.warn(fields, 'marks failed to be stored; they are kept and tried again')
  }

  /**
   * Milliseconds from the last failure to the next attempt.
   *
   * @param closing Whether the tracker is closing now. It may have begun after the failure.
   */
  pauseMs(closing: boolean): number {
    return Math.min(this.#pauseMs, longestPause(closing))
  }

  /**
   * Records that a statement succeeded. Ends the outage, if there is one and the statement was sent in it.
   *
   * @param number The number of the statement, in the order in which they were sent.
   * @param carriedOver Distinct ids that the outage kept waiting.
   * @param dropped Marks lost since the tracker was made.
   */
  end(number: number, carriedOver: number, dropped: number): void {
    if (this.consecutiveErrors === 0 || number <= this.#sentBefore) return
    this.#logger.info(
      { carriedOver, consecutiveErrors: this.consecutiveErrors, dropped },
      'marks are stored again',
    )
    this.consecutiveErrors = 0
  }
}

function longestPause(soon: boolean): number {
  return soon ? LONGEST_PAUSE_IF_SOON_MS : LONGEST_PAUSE_MS
}

/**
 * A random pause in milliseconds. Its upper limit doubles with each attempt. It is random so that replicas do not all
 * try again at the same moment.
 */
function jitteredPause(attempt: number, longest: number): number {
  const ceiling = Math.min(longest, SHORTEST_PAUSE_MS * 2 ** attempt)
  return SHORTEST_PAUSE_MS + Math.random() * (ceiling - SHORTEST_PAUSE_MS)
}
