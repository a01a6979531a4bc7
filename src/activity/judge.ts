import { parseIsoText } from '../database/timestamp.ts'
import { shellWord } from '../shell-word.ts'
import type { HealthFacts, OtherFacts } from './health-facts.ts'
import { DEFAULT_MAX_LAG_SECONDS, type HealthLimits } from './health-options.ts'
import { judgeQueue, judgeSchedule, scheduleSeconds } from './judge-queue.ts'
import { judgeReset } from './judge-reset.ts'
import { type Judge, judgeBloat, judgeFuture, judgeLogged, judgeOldTransaction } from './judge-tables.ts'
import type { Problem } from './problem.ts'
import { ago, marks, seconds, timeOf } from './words.ts'

/** The share of marks of unknown workspaces that counts as nearly all, and the fewest such marks that count. */
const NEARLY_ALL = 0.9
const FEWEST_UNKNOWN = 3

/** Failures in a row, or seconds since the first, from which on flushes fail for good. */
const CRITICAL_FAILURES = 3
const CRITICAL_FAILING_SECONDS = 60

/** A job of the cron, its poll and its flush may take so much longer than the interval. */
const WORKER_GRACE_SECONDS = 120

/** Judges by the facts alone. Critical problems come first, and the others in the order of this list. */
export function judge(facts: HealthFacts, limits: HealthLimits): Problem[] {
  const problems = JUDGES.flatMap(judgeOne => judgeOne(facts, limits) ?? [])
  const isCritical = ({ severity }: Problem) => severity === 'critical'
  return [...problems.filter(isCritical), ...problems.filter(problem => !isCritical(problem))]
}

const judgeLag: Judge = ({ pending: { lagSeconds }, other }, limits) => {
  // Between two flushes an hour apart, an hour is no fault.
  const maxLagSeconds = limits.maxLagSeconds ?? Math.max(DEFAULT_MAX_LAG_SECONDS, workerSeconds(other))
  if (lagSeconds <= maxLagSeconds) return null
  const since = new Date(parseIsoText(other.asOf).getTime() - lagSeconds * 1_000)
  return {
    code: 'lag',
    severity: 'critical',
    message: `The lag is ${lagSeconds.toFixed(1)} s, above ${seconds(maxLagSeconds)}: last_used_at is that late.`,
    remedy:
      'Look whether a worker runs, and at its log. If flushes succeed, raise --batch-size, or flush more often.',
    since,
    object: null,
  }
}

/** Seconds after which a worker must have been seen. */
function workerSeconds({ schedule }: OtherFacts): number {
  return scheduleSeconds(schedule) + WORKER_GRACE_SECONDS
}

/** A worker that fails is seen by its jobs. A flush by hand counts, because some flush from a cron of their own. */
const judgeWorker: Judge = ({ other, lastFlush }, { maxLagSeconds }) => {
  const times = [lastFlush?.completedAt, timeOf(other.workerSeenAt)].filter(time => time instanceof Date)
  const seen = times.length > 0 ? new Date(Math.max(...times.map(Number))) : null
  const limit = Math.max(maxLagSeconds ?? DEFAULT_MAX_LAG_SECONDS, workerSeconds(other))
  const silence = seen && (parseIsoText(other.asOf).getTime() - seen.getTime()) / 1_000
  if (silence !== null && silence <= limit) return null
  return {
    code: 'no-worker',
    severity: 'critical',
    message: `No worker was seen, and nobody flushed, for ${silence === null ? 'as long as is known' : ago(silence)}; expected: at least every ${seconds(limit)}.`,
    remedy: 'Start a worker (workspace-usage worker), or look at the log of the one that should run.',
    since: seen,
    object: null,
  }
}

const judgeFailing: Judge = ({ failing, other }) => {
  if (!failing) return null
  const { since, attempts, message } = failing
  const duration = (parseIsoText(other.asOf).getTime() - since.getTime()) / 1_000
  const isCritical = attempts >= CRITICAL_FAILURES || duration > CRITICAL_FAILING_SECONDS
  return {
    code: 'flushes-fail',
    severity: isCritical ? 'critical' : 'warning',
    message: `Flushes fail for ${ago(duration)}, ${attempts} in a row: ${oneLine(message)}`,
    remedy: 'Remove the reason. Marks stay pending, and flushes are tried again by themselves.',
    since,
    object: null,
  }
}

const judgeFailedJobs: Judge = ({ other, lastFlush, queues }) => {
  const { failedJobs, newestFailedJobAt, jobSucceededAt } = other
  const newest = timeOf(newestFailedJobAt)
  // A crash makes the last flush unknown. These jobs survive it.
  const flushedAt = lastFlush?.completedAt ?? timeOf(jobSucceededAt)
  if (!newest || (flushedAt && newest <= flushedAt)) return null
  return {
    code: 'failed-jobs',
    severity: 'warning',
    message: `A flush job has failed for good, and no flush has succeeded since. ${failedJobs} such jobs are in the dead-letter queue.`,
    remedy: `Look at the error of the jobs in the queue ${queues.failed}. Their marks are pending.`,
    since: newest,
    object: queues.failed,
  }
}

const judgeRefused: Judge = ({ refused: { total, workspaces } }) => {
  const [first] = workspaces
  if (!first) return null
  const state = first.sqlState === null ? '' : ` (SQLSTATE ${first.sqlState})`
  return {
    code: 'refused',
    severity: 'warning',
    message: `The database refuses the update of ${total === 1 ? 'a workspace' : `${total} workspaces`}, first of ${first.workspaceId}: ${oneLine(first.message)}${state}`,
    remedy:
      'Mend the row, the check or the trigger. Their marks are set aside, and are flushed by themselves then.',
    since: first.since,
    object: null,
  }
}

const judgeHeld: Judge = ({ other: { heldLong, heldSince, lockers } }, { heldAfterSeconds }) => {
  if (heldLong === 0) return null
  const who =
    lockers.length === 0 ? 'other transactions keep' : `perhaps ${lockers.join(', ')}: a transaction keeps`
  return {
    code: 'held',
    severity: 'warning',
    message: `${marks(heldLong)} ${heldLong === 1 ? 'is' : 'are'} held for more than ${seconds(heldAfterSeconds)}: ${who} the workspaces locked.`,
    remedy:
      'Find the session that is idle in transaction in pg_stat_activity, or the row of pg_prepared_xacts, and end it.',
    since: timeOf(heldSince),
    object: lockers[0] ?? null,
  }
}

const judgeUnknown: Judge = ({ other, lastFlush, pending: { awaited } }) => {
  const flushed = Number(other.flushed) || (lastFlush?.flushed ?? 0)
  const consumed = Number(other.flushed) > 0 ? Number(other.unknown) : (lastFlush?.unknown ?? 0)
  const unknown = consumed + awaited
  if (unknown < FEWEST_UNKNOWN || unknown < NEARLY_ALL * (flushed + awaited)) return null
  return {
    code: 'unknown',
    severity: 'warning',
    message: `Nearly all marks are of workspaces that do not exist: ${unknown} of ${marks(flushed + awaited)}.`,
    remedy: 'Look whether the table workspaces is the right one, and whether markers pass its ids.',
    since: null,
    object: null,
  }
}

const judgeSilent: Judge = ({ silent }) =>
  silent.map(({ source, lastUsedAt, silentSeconds }) => ({
    code: 'silent-source',
    severity: 'warning',
    message: `The source ${JSON.stringify(source)} was seen every hour for a day, and not for ${ago(silentSeconds)}: its use may go unseen.`,
    remedy: `Look whether the service still marks. If it is gone for good: workspace-usage sources --retire ${shellWord(source)}`,
    since: lastUsedAt,
    object: source,
  }))

const JUDGES: readonly Judge[] = [
  judgeLag,
  judgeWorker,
  judgeFailing,
  judgeQueue,
  judgeSchedule,
  judgeFailedJobs,
  judgeRefused,
  judgeHeld,
  judgeUnknown,
  judgeReset,
  judgeSilent,
  judgeLogged,
  judgeOldTransaction,
  judgeBloat,
  judgeFuture,
]

/** A message of a host's trigger may hold anything. */
function oneLine(message: string): string {
  const line = message.replaceAll(/\s+/g, ' ').trim()
  return line.length > 300 ? `${line.slice(0, 300)}…` : line
}
