import { PgBoss } from 'pg-boss'
import { explainPrivilegeError } from '../access/refusal.ts'
import { explainDatabaseError } from '../database/explain-error.ts'
import type { ConnectionPool } from '../database/pool.ts'
import { jobSeconds, takeFlushJobs } from './flush-job.ts'
import { FlushLog } from './flush-log.ts'
import { IntervalInForce } from './interval-in-force.ts'
import { JobDatabase } from './job-database.ts'
import { flushQueues } from './queue.ts'
import { mayKeepQueueStats } from './queue-stats.ts'
import { assertMarksTable, assertPolicy, assertSchema } from './requirements.ts'
import { scheduleFlushes } from './schedule.ts'
import { type FlushWorkerOptions, type WorkerSettings, workerSettings } from './worker-options.ts'
import { takePool } from './worker-pool.ts'

export type { FlushWorkerOptions } from './worker-options.ts'

/** A running worker. */
export interface FlushWorker extends AsyncDisposable {
  /** Finishes the flush that is running, then lets go of the database. A second call waits for the same stop. */
  stop(): Promise<void>
}

/**
 * Starts a worker: pg-boss with its cron, and a handler for its jobs. Each job is one flush, in the transaction that
 * completes the job. Any number of workers may run. A worker needs no right to create anything.
 *
 * @throws {InvalidOptionError} If an option is not what it may be, or a required one is missing. Nothing is connected.
 * @throws {UnknownOptionError} If there is no such option. Nothing is connected.
 * @throws {NotMigratedError} If pg-boss, the queue or `pending_usage` is not installed, or pg-boss's schema is too old.
 * @throws {QueueSchemaError} If pg-boss's schema is newer than this pg-boss.
 * @throws {QueuePolicyError} If the queue has another policy than the one the worker relies on.
 * @throws {StandbyError} On a standby, or if the sessions of the database are read-only.
 * @throws {InsufficientPrivilegeError} If the role lacks what `workspace-usage grant --worker` gives.
 */
export async function startFlushWorker(options: FlushWorkerOptions): Promise<FlushWorker> {
  const settings = workerSettings(options)
  const { pool, letGo: letGoOfPool } = takePool(settings.database, settings.logger)
  // pg-boss's own statements do not go through `execute`, so their errors are explained here.
  const explain = (error: unknown) => explainPrivilegeError(pool, explainDatabaseError(error), 'worker')
  let boss: PgBoss | undefined
  const letGo = async () => {
    await boss?.stop({ graceful: true, timeout: jobSeconds(settings) * 1_000 })
    await letGoOfPool()
  }
  try {
    const { flush: queue } = await flushQueues(pool)
    boss = await createBoss(pool, queue, settings, explain)
    await assertSchema(boss)
    await boss.start()
    await assertPolicy(boss, queue)
    await assertMarksTable(pool)
    const interval = new IntervalInForce(queue, settings.flushIntervalSeconds, settings.logger)
    await interval.tellReplaced(pool)
    await scheduleFlushes(boss, queue, settings.flushIntervalSeconds)
    // The first flush does not wait for the cron. It is sent before the handler is there, so it does not wait for a
    // poll.
    await boss.send(queue)
    await takeFlushJobs(boss, queue, interval, settings)
  } catch (error) {
    const explained = await explain(error)
    await letGo()
    throw explained
  }
  return stoppable(letGo)
}

/** Makes a pg-boss that creates nothing and logs what happens. It is not started yet. */
async function createBoss(
  pool: ConnectionPool,
  queue: string,
  { logger, clock }: WorkerSettings,
  explain: (error: unknown) => Promise<unknown>,
): Promise<PgBoss> {
  const log = new FlushLog(logger)
  const tellFailure = async (error: unknown) => log.failed(await explain(error))
  const boss = new PgBoss({
    db: new JobDatabase(pool, { committed: flush => log.flushed(flush), failed: tellFailure }),
    migrate: false,
    createSchema: false,
    persistWarnings: true,
    persistQueueStats: await mayKeepQueueStats(pool),
    ...(clock && { clock }),
  })
  boss.on('error', error => {
    if ('queue' in error && error.queue === queue) void tellFailure(error)
    else logger.error({ err: error }, 'pg-boss failed at something other than a flush')
  })
  boss.on('warning', warning => logger.warn({ ...warning }, 'pg-boss warns'))
  return boss
}

function stoppable(letGo: () => Promise<void>): FlushWorker {
  let stopping: Promise<void> | undefined
  const stop = () => {
    stopping ??= letGo()
    return stopping
  }
  return { stop, [Symbol.asyncDispose]: stop }
}
