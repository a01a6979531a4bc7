import { parseIsoText } from '../database/timestamp.ts'
import type { HealthFacts } from './health-facts.ts'
import type { HealthLimits } from './health-options.ts'
import type { Problem } from './problem.ts'
import { ago, marks, timeOf } from './words.ts'

/** Judges one thing by the facts. Null if it is well. */
export type Judge = (facts: HealthFacts, limits: HealthLimits) => Problem | Problem[] | null

/** A mark takes about so many bytes with its index. A table of twice the size is nothing. */
const BYTES_OF_A_MARK = 200
const BLOAT_FACTOR = 10

/** Whether the tables of marks are UNLOGGED. If all are LOGGED, that is meant: `migrate --logged` did it. */
export const judgeLogged: Judge = ({ other: { logged, unlogged } }, { loggedMarks }) =>
  loggedMarks || logged.length === 0 || unlogged.length === 0
    ? null
    : {
        code: 'logged-marks',
        severity: 'warning',
        message: `${logged.join(' and ')} ${logged.length === 1 ? 'is' : 'are'} not UNLOGGED: a mark costs much more WAL. ${unlogged.join(' and ')} ${unlogged.length === 1 ? 'is' : 'are'}, so a crash loses some marks all the same.`,
        remedy:
          'Run workspace-usage migrate --unlogged, or migrate --logged if no mark may be lost. It switches all of them.',
        since: null,
        object: logged.join(', '),
      }

/** Whether something keeps VACUUM back. */
export const judgeOldTransaction: Judge = (
  { other: { oldTransaction, asOf } },
  { oldTransactionSeconds },
) => {
  if (!oldTransaction) return null
  const since = timeOf(oldTransaction.since)
  const age = since
    ? `which is open for ${ago((parseIsoText(asOf).getTime() - since.getTime()) / 1_000)}`
    : `for longer than ${ago(oldTransactionSeconds)}`
  return {
    code: 'old-transaction',
    severity: 'warning',
    message: `VACUUM can not remove flushed marks because of ${oldTransaction.what}, ${age}.`,
    remedy:
      'End it (COMMIT, pg_terminate_backend, ROLLBACK PREPARED), or drop the slot. Flushes get slower until then.',
    since,
    object: oldTransaction.what,
  }
}

/** Whether `pending_usage` is much larger than its rows. */
export const judgeBloat: Judge = ({ other: { bytes }, pending: { open, closed } }, { bloatBytes }) => {
  const needed = (open + closed) * BYTES_OF_A_MARK
  if (bytes <= bloatBytes || bytes <= BLOAT_FACTOR * needed) return null
  return {
    code: 'bloat',
    severity: 'warning',
    message: `pending_usage takes ${megabytes(bytes)} MB for ${marks(open + closed)}.`,
    remedy:
      'Look whether autovacuum runs, and whether an old transaction holds it back. Then VACUUM (TRUNCATE) pending_usage, and REINDEX TABLE CONCURRENTLY pending_usage.',
    since: null,
    object: 'pending_usage',
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1_000_000).toFixed(bytes < 10_000_000 ? 1 : 0)
}

/** Whether marks are of periods that end too far ahead. No flush takes them before. */
export const judgeFuture: Judge = ({ other: { futureMarks, futureUntil } }) =>
  futureMarks === 0
    ? null
    : {
        code: 'future-marks',
        severity: 'warning',
        message: `${marks(futureMarks)} ${futureMarks === 1 ? 'is of a period that ends' : 'are of periods that end'} too far ahead, ${futureUntil === null ? 'never' : `the last at ${futureUntil}`}: their workspaces seem in use until then.`,
        remedy:
          'Look at the clock of the server, and who may choose a period. Then DELETE FROM ONLY pending_usage WHERE period_end > now() + usage_until_limit().',
        since: null,
        object: 'pending_usage',
      }
