import { explainPrivilegeError } from '../access/refusal.ts'
import { A_CONNECTION, type Connection } from '../database/connection.ts'
import { schemaOf } from '../database/schema-path.ts'
import { sqlState } from '../database/sql-state.ts'
import { parseIsoText } from '../database/timestamp.ts'
import {
  InsufficientPrivilegeError,
  NoAnswerError,
  NotMigratedError,
  WorkspaceUsageError,
} from '../errors.ts'
import { checkOption, checkOptions } from '../options.ts'
import { withoutPasswords } from '../without-passwords.ts'
import type { ResetReason } from '../worker/queue.ts'
import { boundedBy } from './bounded.ts'
import type { FailingFlushes } from './failing-flushes.ts'
import { type HealthFacts, healthFacts } from './health-facts.ts'
import { HEALTH_OPTIONS, type HealthOptions, healthLimits } from './health-options.ts'
import { judge } from './judge.ts'
import type { LastFlush } from './last-flush.ts'
import type { Problem } from './problem.ts'
import type { PendingStatus } from './status.ts'
import { timeOf } from './words.ts'

export { HEALTH_OPTIONS, type HealthOptions } from './health-options.ts'

/** The verdict, and what it was judged by. What is null is not known: see the problem `unavailable`. */
export interface Health {
  /** Whether there is no problem at all. */
  ok: boolean
  /** Whether a problem is critical. */
  critical: boolean
  /** What is wrong. Critical problems come first. Empty if all is well. */
  problems: Problem[]
  /** When the database was asked, by its clock. */
  asOf: Date | null
  pending: PendingStatus | null
  /** The last flush, whoever ran it. Null also if there was none. */
  lastFlush: LastFlush | null
  /** What flushes fail with now. Null also if they do not fail. */
  failing: FailingFlushes | null
  /** How often pending marks were lost, as far as flushes noticed. */
  resets: number
  /** When they were lost the last time. Null also if they never were. */
  lastResetAt: Date | null
  /** Why they were lost the last time. Null also if they never were. */
  lastResetReason: ResetReason | null
  /**
   * All use since then is known: what `usage_complete_since()` answers. What was used before may look idle. If no flush
   * has noticed a loss yet, it is the time of the question. Null also if no marks were ever lost.
   */
  completeSince: Date | null
  /** Flush jobs in the dead-letter queue. pg-boss keeps them for a week. */
  failedJobs: number
}

/**
 * The health verdict: is use recorded, and are the answers right? `status`, `doctor`, `/readyz` and the metrics all tell
 * this one. It changes nothing, and ends in bounded time.
 *
 * It throws for no error of the database. Then the verdict is one problem, `unavailable`.
 *
 * @param connection The role needs what `workspace-usage grant --worker` gives. What `--reader` gives is not enough:
 *   the problem then names the command. Without `pg_read_all_stats`, a role does not see since when the transactions of
 *   others are open. They are found nevertheless if flush jobs have succeeded before them.
 * @throws {InvalidOptionError} If an option is out of its range; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 */
export async function usageHealth(connection: Connection, options: HealthOptions = {}): Promise<Health> {
  checkOption('connection', connection, A_CONNECTION)
  checkOptions(options, HEALTH_OPTIONS)
  const limits = healthLimits(options)
  try {
    const facts = await boundedBy(connection, limits.timeoutSeconds * 1_000, async bounded => {
      try {
        return await healthFacts(bounded, limits)
      } catch (error) {
        throw await explainPrivilegeError(bounded, error, 'worker', schemaOf(connection))
      }
    })
    return health(facts, judge(facts, limits))
  } catch (error) {
    return noHealth(error)
  }
}

function health({ other, pending, lastFlush, failing }: HealthFacts, problems: Problem[]): Health {
  return {
    ok: problems.length === 0,
    critical: problems.some(({ severity }) => severity === 'critical'),
    problems,
    asOf: parseIsoText(other.asOf),
    pending,
    lastFlush,
    failing,
    resets: other.resets,
    lastResetAt: timeOf(other.lastResetAt),
    lastResetReason: other.lastResetReason,
    completeSince: timeOf(other.completeSince),
    failedJobs: other.failedJobs,
  }
}

function noHealth(error: unknown): Health {
  const nothing = { asOf: null, pending: null, lastFlush: null, failing: null }
  const never = { resets: 0, lastResetAt: null, lastResetReason: null, completeSince: null, failedJobs: 0 }
  return { ok: false, critical: true, problems: [unavailable(error)], ...nothing, ...never }
}

/** The problem that the database gives no verdict. */
export function unavailable(error: unknown): Problem {
  const remedy = remedyOf(error)
  const text = withoutPasswords(error instanceof Error ? textOf(error) : String(error))
  // Some errors end with their remedy. Both are shown together.
  const message = text.endsWith(remedy) ? text.slice(0, -remedy.length).trimEnd() : text
  return {
    code: 'unavailable',
    severity: 'critical',
    message: `There is no verdict: ${message}`,
    remedy,
    since: null,
    object: null,
  }
}

/** Node tries several addresses, and has no message of its own for all of them. */
function textOf(error: Error): string {
  if (error.message !== '' || !(error instanceof AggregateError)) return error.message
  return error.errors.map(({ message }: Error) => message).join('; ')
}

function remedyOf(error: unknown): string {
  if (error instanceof NoAnswerError || !(error instanceof Error)) return OUT_OF_REACH
  if (error instanceof InsufficientPrivilegeError) return `Run: ${error.command}`
  if (error instanceof NotMigratedError)
    return 'Run workspace-usage migrate, as the message says, or mend search_path.'
  if (error instanceof WorkspaceUsageError) return 'Do what the message says.'
  return sqlState(error) === undefined ? OUT_OF_REACH : 'Look at the error of the database, and at its log.'
}

const OUT_OF_REACH =
  'Look whether the server runs and can be reached from here, and at what it is waiting for (pg_stat_activity).'
