import { sql } from 'kysely'
import type { Db, Job, PgBoss } from 'pg-boss'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { type FlushPosition, flush } from '../flush/flush.ts'
import { restoreWitness } from '../flush/witness.ts'
import { flushInterval } from './flush-interval.ts'
import type { FinishedFlush } from './flush-log.ts'
import { JobTransaction } from './job-transaction.ts'
import { FLUSH_QUEUE, type FlushJobOutput } from './queue.ts'
import type { WorkerSettings } from './worker-options.ts'

/** Seconds that the transaction of a flush may outlive its statement: for completing the job and committing. */
const COMMIT_GRACE_SECONDS = 2

/** Not the key of the cron's jobs: the next batch of a drain is queued beside a regular flush that waits already. */
const DRAIN_KEY = 'drain'

/** What a job carries: where a drain goes on. A regular flush carries nothing. */
interface FlushJobData {
  resume?: FlushPosition | null
}

/** What a job needs to know of the options of its worker. */
export type FlushJobSettings = Pick<
  WorkerSettings,
  'flushIntervalSeconds' | 'flushTimeoutSeconds' | 'batchSize' | 'sources'
>

/** Lets pg-boss hand over flush jobs, one at a time, each in the transaction that completes it. */
export async function takeFlushJobs(boss: PgBoss, settings: FlushJobSettings): Promise<void> {
  const { deferSeconds } = flushInterval(settings.flushIntervalSeconds)
  const workerId: string = await boss.work(
    FLUSH_QUEUE,
    {
      transactional: true,
      transactionTimeoutSeconds: jobSeconds(settings),
      pollingIntervalSeconds: deferSeconds === null ? 2 : 0.5,
    },
    async ([job]: Job<FlushJobData | null>[], db: Db): Promise<FlushJobOutput> => {
      const transaction = JobTransaction.of(db)
      try {
        // Before the flush and outside its transaction: a worker that is killed in the middle leaves the next one.
        if (deferSeconds !== null) await boss.send(FLUSH_QUEUE, null, { startAfter: deferSeconds })
        const finished = await runFlush(transaction, settings, job?.data?.resume ?? null)
        transaction.succeeded(finished)
        if (finished.result.full) {
          await sendNextBatch(boss, transaction, finished.result.resume)
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

/** Seconds that a job takes at most. */
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

/** In the transaction of the batch before: the chain goes on if that commits, and only then. */
async function sendNextBatch(boss: PgBoss, db: JobTransaction, resume: FlushPosition | null): Promise<void> {
  await boss.send(FLUSH_QUEUE, { resume }, { db, singletonKey: DRAIN_KEY })
}

function outputOf({ result: { resume: _, ...counts }, emptied }: FinishedFlush): FlushJobOutput {
  return emptied ? { ...counts, emptied } : counts
}

/**
 * pg-boss's own limit needs PostgreSQL 17 for a transaction that is busy, and it ends the session. This one holds on
 * every version and cancels the statement. A tighter limit that the role or the database sets stays in force.
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
