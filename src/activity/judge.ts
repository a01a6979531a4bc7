import { parseIsoText } from '../database/timestamp.ts'
import type { HealthFacts } from './health-facts.ts'
import type { HealthLimits } from './health-options.ts'
import { judgeQueue, judgeSchedule, scheduleSeconds } from './judge-queue.ts'
import type { Problem } from './problem.ts'
import { ago, marks, seconds } from './words.ts'

/** The share of marks of unknown workspaces that counts as nearly all, and the fewest such marks that count. */
const NEARLY_ALL = 0.9
const FEWEST_UNKNOWN = 3

/** Failures in a row, or seconds since the first, from which on flushes fail for good. */
const CRITICAL_FAILURES = 3
const CRITICAL_FAILING_SECONDS = 60

/** A job of the cron, its poll and its flush may take so much longer than the interval. */
const WORKER_GRACE_SECONDS = 120

/** A mark takes about so many bytes with its index. A table of twice the size is nothing. */
const BYTES_OF_A_MARK = 200
const BLOAT_FACTOR = 10

type Judge = (facts: HealthFacts, limits: HealthLimits) => Problem | Problem[] | null

/** Judges by the facts alone. Critical problems come first, and the others in the order of this list. */
export function judge(facts: HealthFacts, limits: HealthLimits): Problem[] {
  const problems = JUDGES.flatMap(judgeOne => judgeOne(facts, limits) ?? [])
  const isCritical = ({ severity }: Problem) => severity === 'critical'
  return [...problems.filter(isCritical), ...problems.filter(problem => !isCritical(problem))]
}

const judgeLag: Judge = ({ pending: { lagSeconds }, other }, { maxLagSeconds }) => {
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

/** A worker that fails is seen by its jobs. A flush by hand counts, because some flush from a cron of their own. */
const judgeWorker: Judge = ({ other, lastFlush }, { maxLagSeconds }) => {
  const times = [lastFlush?.completedAt, timeOf(other.workerSeenAt)].filter(time => time instanceof Date)
  const seen = times.length > 0 ? new Date(Math.max(...times.map(Number))) : null
  const limit = Math.max(maxLagSeconds, scheduleSeconds(other.schedule) + WORKER_GRACE_SECONDS)
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

const judgeFailedJobs: Judge = ({ other: { failedJobs, newestFailedJobAt }, lastFlush, queues }) => {
  const newest = timeOf(newestFailedJobAt)
  if (!newest || (lastFlush && newest <= lastFlush.completedAt)) return null
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

const judgeHeld: Judge = ({ other: { heldLong, heldSince } }, { heldAfterSeconds }) =>
  heldLong === 0
    ? null
    : {
        code: 'held',
        severity: 'warning',
        message: `${marks(heldLong)} ${heldLong === 1 ? 'is' : 'are'} held for more than ${seconds(heldAfterSeconds)}: other transactions keep the workspaces locked.`,
        remedy: 'Find sessions that are idle in transaction in pg_stat_activity, and end those transactions.',
        since: timeOf(heldSince),
        object: null,
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

const judgeReset: Judge = ({ other }, { resetWithinSeconds }) => {
  const last = timeOf(other.lastResetAt)
  if (!last) return null
  const past = (parseIsoText(other.asOf).getTime() - last.getTime()) / 1_000
  if (past > resetWithinSeconds) return null
  const until = timeOf(other.flushedUntil)
  const from = until ? ` Marks from ${until.toISOString()} on may be lost.` : ''
  return {
    code: 'reset',
    severity: 'warning',
    message: `Pending marks were lost ${ago(past)} ago, by a crash, a promotion or a restore.${from} Use is complete since ${last.toISOString()}.`,
    remedy: 'Do not judge workspaces as idle by the time before. Find out why the server crashed.',
    since: last,
    object: null,
  }
}

const judgeLogged: Judge = ({ other: { logged } }, { loggedMarks }) =>
  loggedMarks || logged.length === 0
    ? null
    : {
        code: 'logged-marks',
        severity: 'warning',
        message: `${logged.join(' and ')} ${logged.length === 1 ? 'is' : 'are'} not UNLOGGED: a mark costs much more WAL.`,
        remedy: `Run ALTER TABLE ${logged[0]} SET UNLOGGED, or declare that it is meant so (loggedMarks, --logged-marks).`,
        since: null,
        object: logged.join(', '),
      }

const judgeOldTransaction: Judge = ({ other: { oldTransaction, asOf } }) => {
  if (!oldTransaction) return null
  const since = timeOf(oldTransaction.since)
  const age = since && ago((parseIsoText(asOf).getTime() - since.getTime()) / 1_000)
  return {
    code: 'old-transaction',
    severity: 'warning',
    message: `VACUUM can not remove flushed marks because of ${oldTransaction.what}${age === null ? '' : `, which is open for ${age}`}.`,
    remedy:
      'End it (COMMIT, pg_terminate_backend, ROLLBACK PREPARED), or drop the slot. Flushes get slower until then.',
    since,
    object: oldTransaction.what,
  }
}

const judgeBloat: Judge = ({ other: { bytes }, pending: { open, closed } }, { bloatBytes }) => {
  const needed = (open + closed) * BYTES_OF_A_MARK
  if (bytes <= bloatBytes || bytes <= BLOAT_FACTOR * needed) return null
  return {
    code: 'bloat',
    severity: 'warning',
    message: `pending_usage takes ${megabytes(bytes)} MB for ${marks(open + closed)}.`,
    remedy:
      'Look whether autovacuum runs and an old transaction holds it back. Then VACUUM, or REINDEX TABLE CONCURRENTLY pending_usage.',
    since: null,
    object: 'pending_usage',
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
]

function timeOf(text: string | null): Date | null {
  return text === null ? null : parseIsoText(text)
}

/** A message of a host's trigger may hold anything. */
function oneLine(message: string): string {
  const line = message.replaceAll(/\s+/g, ' ').trim()
  return line.length > 300 ? `${line.slice(0, 300)}…` : line
}

function megabytes(bytes: number): string {
  return (bytes / 1_000_000).toFixed(bytes < 10_000_000 ? 1 : 0)
}

function shellWord(text: string): string {
  return /^[\w.-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
