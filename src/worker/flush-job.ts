import type { Db, Job, PgBoss } from 'pg-boss'
import { type Connection, execute } from '../database/connection.ts'
import { sqlState } from '../database/sql-state.ts'
import { flush } from '../flush/flush.ts'
import type { UsageReset } from '../flush/reset.ts'
import { FlushAttempt } from './flush-attempt.ts'
import { flushInterval } from './flush-interval.ts'
import type { FinishedFlush } from './flush-log.ts'
import type { IntervalInForce } from './interval-in-force.ts'
import { JobTransaction } from './job-transaction.ts'
import type { FlushJobOutput } from './queue.ts'
import type { WorkerSettings } from './worker-options.ts'

/** Seconds that completing the job and committing may take after the flush. */
const COMMIT_GRACE_SECONDS = 2

/**
 * The longest wait for one lock before and after the flush, in ms. The workspaces are locked when pg-boss completes the
 * job, and its row may be locked by somebody who stands still. The limit of the whole transaction is far longer.
 */
const LOCK_TIMEOUT_MS = 2_000

/** The longest wait for another worker that sends the next batch, in ms. */
const SEND_LOCK_TIMEOUT_MS = 100

/** The SQLSTATE of a lock that was not free in time. */
const LOCK_NOT_AVAILABLE = '55P03'

/** The jobs of the cron do not have this key. So the next batch of a drain can wait beside a regular flush. */
const DRAIN_KEY = 'drain'

/** The most refusals in the output of a job. */
const MOST_REFUSALS = 20

/** What a job carries. The job of a regular flush carries nothing. */
interface FlushJobData {
  /** Set in every second batch of a drain, so that a flood of new marks does not keep the old ones waiting. */
  oldestFirst?: boolean
}

/** The options of the worker that a job uses. */
export type FlushJobSettings = Pick<
  WorkerSettings,
  'flushTimeoutSeconds' | 'batchSize' | 'sources' | 'historyDays' | 'unknownAfterSeconds'
>

/**
 * Takes flush jobs from pg-boss, one at a time. Each flush runs in the transaction that completes its job.
 *
 * @param pollSeconds Seconds between two questions for jobs.
 * @returns The id of pg-boss's worker, for `notifyWorker`.
 */
export async function takeFlushJobs(
  boss: PgBoss,
  queue: string,
  interval: IntervalInForce,
  pollSeconds: number,
  settings: FlushJobSettings,
): Promise<string> {
  const workerId: string = await boss.work(
    queue,
    {
      transactional: true,
      transactionTimeoutSeconds: jobSeconds(settings),
      pollingIntervalSeconds: pollSeconds,
    },
    async ([job]: Job<FlushJobData | null>[], db: Db): Promise<FlushJobOutput> => {
      const transaction = JobTransaction.of(db)
      const oldestFirst = job!.data?.oldestFirst ?? false
      const attempt = new FlushAttempt(job!.id, queue)
      transaction.belongsTo(attempt)
      return await attempt.within(async () => {
        try {
          // The next job is sent first, and outside the transaction. So it is there even if this worker is killed
          // meanwhile.
          const { deferSeconds } = flushInterval(await interval.seconds(transaction))
          if (deferSeconds !== null) await boss.send(queue, null, { startAfter: deferSeconds })
          const finished = await runFlush(transaction, settings, oldestFirst)
          transaction.succeeded(finished)
          if (finished.result.full) {
            await sendNextBatch(boss, queue, transaction, !oldestFirst)
            boss.notifyWorker(workerId)
          }
          return outputOf(finished)
        } catch (error) {
          transaction.failed(error)
          throw error
        }
      })
    },
  )
  return workerId
}

/** The most seconds that a job may take. */
export function jobSeconds({ flushTimeoutSeconds }: FlushJobSettings): number {
  return Math.ceil(flushTimeoutSeconds) + COMMIT_GRACE_SECONDS
}

async function runFlush(
  connection: Connection,
  { batchSize, sources, historyDays, unknownAfterSeconds, flushTimeoutSeconds }: FlushJobSettings,
  oldestFirst: boolean,
): Promise<FinishedFlush> {
  const started = performance.now()
  // A flush inside somebody's transaction leaves deferred constraints alone, but this transaction is the flush's own. At
  // COMMIT it could not go around a workspace any more.
  await execute(connection, { sql: 'SET CONSTRAINTS ALL IMMEDIATE', parameters: [] })
  await execute(connection, { sql: `SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`, parameters: [] })
  const options = {
    batchSize,
    sources,
    history: historyDays > 0,
    unknownAfterSeconds,
    oldestFirst,
    timeoutSeconds: flushTimeoutSeconds,
  }
  const result = await flush(connection, options)
  return { result, durationMs: performance.now() - started }
}

/**
 * Sends the job in the transaction of this batch, so that it exists only if this batch commits. At most one is queued, so
 * the INSERT waits for another worker that is just sending one. The workspaces of this batch are locked meanwhile. After
 * a moment it is left to the other worker. If that fails, the next regular flush goes on.
 */
async function sendNextBatch(
  boss: PgBoss,
  queue: string,
  db: JobTransaction,
  oldestFirst: boolean,
): Promise<void> {
  await db.query('SAVEPOINT next_batch')
  await db.query(`SET LOCAL lock_timeout = ${SEND_LOCK_TIMEOUT_MS}`)
  try {
    await boss.send(queue, { oldestFirst }, { db, singletonKey: DRAIN_KEY })
    await db.query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`)
  } catch (error) {
    if (sqlState(error) !== LOCK_NOT_AVAILABLE) throw error
    await db.query('ROLLBACK TO SAVEPOINT next_batch')
  }
}

/** What is the rule does not fill the dashboard: some are there only if there is something to tell. */
function outputOf({
  result: { emptied, reset, refusals, shardsLeft = [], ...counts },
}: FinishedFlush): FlushJobOutput {
  return {
    ...counts,
    ...(emptied && { emptied }),
    ...(reset && { reset: resetOutput(reset) }),
    ...(refusals.length > 0 && { refusals: refusals.slice(0, MOST_REFUSALS) }),
    ...(shardsLeft.length > 0 && { shardsLeft }),
  }
}

function resetOutput({
  reason,
  completeSince,
  flushedUntil,
  nodes,
}: UsageReset): NonNullable<FlushJobOutput['reset']> {
  return {
    reason,
    completeSince: completeSince.toISOString(),
    flushedUntil: flushedUntil?.toISOString() ?? null,
    ...(nodes && { nodes }),
  }
}
