import type { PgBoss } from 'pg-boss'
import { explainPrivilegeError } from '../access/refusal.ts'
import { assertNoRowSecurity } from '../access/row-security.ts'
import { explainDatabaseError } from '../database/explain-error.ts'
import { BoundedPool } from './bounded-pool.ts'
import { createBoss, type Explain } from './create-boss.ts'
import { jobSeconds, takeFlushJobs } from './flush-job.ts'
import { IntervalInForce } from './interval-in-force.ts'
import { flushQueues } from './queue.ts'
import { Reach } from './reach.ts'
import {
  assertDriverFormat,
  assertMarksTable,
  assertPolicy,
  assertPoolSize,
  assertSchema,
} from './requirements.ts'
import { scheduleFlushes } from './schedule.ts'
import { stopInTime } from './stop-in-time.ts'
import { type FlushWorkerOptions, type WorkerSettings, workerSettings } from './worker-options.ts'
import { takePool } from './worker-pool.ts'

export type { FlushWorkerOptions } from './worker-options.ts'

/** A running worker. */
export interface FlushWorker extends AsyncDisposable {
  /**
   * Finishes the flush that is running, then lets go of the database. If that takes longer than a flush may take plus 5
   * seconds, its connections are cut. A second call waits for the same stop.
   */
  stop(): Promise<void>
}

/**
 * Starts a worker: pg-boss with its cron, and a handler for its jobs. Each job is one flush, in the transaction that
 * completes the job. Any number of workers may run. A worker needs no right to create anything.
 *
 * @throws {InvalidOptionError} If an option is not what it may be, or a required one is missing. Nothing is connected.
 * @throws {UnknownOptionError} If there is no such option. Nothing is connected.
 * @throws {PoolSizeError} If the pool has fewer than two connections.
 * @throws {DriverFormatError} If the pool reads values in a way that pg-boss can't work with.
 * @throws {NoConnectionError} If the pool hands out no connection in time.
 * @throws {NoAnswerError} If the database does not answer in time.
 * @throws {NotMigratedError} If pg-boss, the queue or `pending_usage` is not installed, or pg-boss's schema is too old.
 * @throws {QueueSchemaError} If pg-boss's schema is newer than this pg-boss.
 * @throws {QueuePolicyError} If the queue has another policy than the one the worker relies on.
 * @throws {StandbyError} On a standby, or if the sessions of the database are read-only.
 * @throws {RowSecurityError} If row security would hide rows from the role.
 * @throws {InsufficientPrivilegeError} If the role lacks what `workspace-usage grant --worker` gives.
 */
export async function startFlushWorker(options: FlushWorkerOptions): Promise<FlushWorker> {
  const settings = workerSettings(options)
  const { pool, letGo: letGoOfPool } = takePool(settings.database, settings.logger)
  const reach = new Reach(settings.logger)
  const connections = new BoundedPool(pool, settings.flushTimeoutSeconds, reach)
  // pg-boss's own statements do not go through `execute`, so their errors are explained here.
  const explain: Explain = error => explainPrivilegeError(connections, explainDatabaseError(error), 'worker')
  let boss: PgBoss | undefined
  const letGo = async () => {
    if (boss) await stopInTime(boss, connections, jobSeconds(settings), settings.logger)
    await letGoOfPool()
  }
  try {
    await assertPoolSize(pool)
    await assertDriverFormat(connections)
    const { flush: queue } = await flushQueues(connections)
    boss = await createBoss({ connections, queue, reach, settings, explain })
    await startFlushing(boss, queue, connections, settings)
    reach.started()
  } catch (error) {
    const explained = await explain(error)
    await letGo()
    throw explained
  }
  return stoppable(letGo)
}

async function startFlushing(
  boss: PgBoss,
  queue: string,
  connections: BoundedPool,
  settings: WorkerSettings,
): Promise<void> {
  await assertSchema(boss)
  await boss.start()
  await assertPolicy(boss, queue)
  await assertMarksTable(connections)
  await assertNoRowSecurity(connections)
  const interval = new IntervalInForce(queue, settings.flushIntervalSeconds, settings.logger)
  await interval.tellReplaced(connections)
  await scheduleFlushes(boss, queue, settings.flushIntervalSeconds)
  // The first flush does not wait for the cron. It is sent before the handler is there, so it does not wait for a poll.
  await boss.send(queue)
  await takeFlushJobs(boss, queue, interval, settings)
}

function stoppable(letGo: () => Promise<void>): FlushWorker {
  let stopping: Promise<void> | undefined
  const stop = () => {
    stopping ??= letGo()
    return stopping
  }
  return { stop, [Symbol.asyncDispose]: stop }
}
