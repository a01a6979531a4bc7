import { sql } from 'kysely'
import type { Db, Job, PgBoss } from 'pg-boss'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { type FlushPosition, flush } from '../flush/flush.ts'
import { restoreWitness } from '../flush/witness.ts'
import { flushInterval } from './flush-interval.ts'
import type { FinishedFlush } from './flush-log.ts'
import type { IntervalInForce } from './interval-in-force.ts'
import { JobTransaction } from './job-transaction.ts'
import type { FlushJobOutput } from './queue.ts'
import type { WorkerSettings } from './worker-options.ts'

/** Seconds that completing the job and committing may take after the flush. */
const COMMIT_GRACE_SECONDS = 2

/** The jobs of the cron do not have this key. So the next batch of a drain can wait beside a regular flush. */
const DRAIN_KEY = 'drain'

/** What a job carries: the place where a drain goes on. The job of a regular flush carries nothing. */
interface FlushJobData {
  resume?: FlushPosition | null
}

/** The options of the worker that a job uses. */
export type FlushJobSettings = Pick<
  WorkerSettings,
  'flushIntervalSeconds' | 'flushTimeoutSeconds' | 'batchSize' | 'sources'
>

/** Takes flush jobs from pg-boss, one at a time. Each flush runs in the transaction that completes its job. */
export async function takeFlushJobs(
  boss: PgBoss,
  queue: string,
  interval: IntervalInForce,
  settings: FlushJobSettings,
): Promise<void> {
  const pollsOften = flushInterval(settings.flushIntervalSeconds).deferSeconds !== null
  const workerId: string = await boss.work(
    queue,
    {
      transactional: true,
      transactionTimeoutSeconds: jobSeconds(settings),
      pollingIntervalSeconds: pollsOften ? 0.5 : 2,
    },
    async ([job]: Job<FlushJobData | null>[], db: Db): Promise<FlushJobOutput> => {
      const transaction = JobTransaction.of(db)
      try {
        // The next job is sent first, and outside the transaction. So it is there even if this worker is killed
        // meanwhile.
        const { deferSeconds } = flushInterval(await interval.seconds(transaction))
        if (deferSeconds !== null) await boss.send(queue, null, { startAfter: deferSeconds })
        const finished = await runFlush(transaction, settings, job?.data?.resume ?? null)
        transaction.succeeded(finished)
        if (finished.result.full) {
          await sendNextBatch(boss, queue, transaction, finished.result.resume)
          boss.notifyWorker(workerId)
        }
        return outputOf(finished)
      } catch (error) {
        transaction.failed(error)
        throw error
      }
    },
  )
}

/** The most seconds that a job may take. */
export function jobSeconds({ flushTimeoutSeconds }: FlushJobSettings): number {
  return Math.ceil(flushTimeoutSeconds) + COMMIT_GRACE_SECONDS
}

async function runFlush(
  connection: Connection,
  { batchSize, sources, flushTimeoutSeconds }: FlushJobSettings,
  resume: FlushPosition | null,
): Promise<FinishedFlush> {
  const started = performance.now()
  await limitStatements(connection, flushTimeoutSeconds)
  const emptied = await restoreWitness(connection)
  const result = await flush(connection, { batchSize, sources, resume })
  return { result, emptied, durationMs: performance.now() - started }
}

/** Sends the job in the transaction of this batch, so that it exists only if this batch commits. */
async function sendNextBatch(
  boss: PgBoss,
  queue: string,
  db: JobTransaction,
  resume: FlushPosition | null,
): Promise<void> {
  await boss.send(queue, { resume }, { db, singletonKey: DRAIN_KEY })
}

function outputOf({ result: { resume: _, ...counts }, emptied }: FinishedFlush): FlushJobOutput {
  return emptied ? { ...counts, emptied } : counts
}

/**
 * Limits the time of each statement. pg-boss's own limit stops a busy transaction only since PostgreSQL 17, and it ends
 * the session. This one works on all versions, and only cancels the statement. A lower limit of the role or database
 * stays.
 */
async function limitStatements(connection: Connection, seconds: number): Promise<void> {
  const ms = Math.round(seconds * 1_000)
  await execute(
    connection,
    compile(sql`
      SELECT set_config('statement_timeout', least(${ms}::bigint, nullif(setting::bigint, 0))::text, true)
      FROM pg_settings WHERE name = 'statement_timeout'`),
  )
}
