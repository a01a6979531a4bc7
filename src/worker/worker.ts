import type { PgBoss } from 'pg-boss'
import { explainPrivilegeError } from '../access/refusal.ts'
import { assertNoRowSecurity } from '../access/row-security.ts'
import { usageHealth } from '../activity/health.ts'
import { orNotCoordinator } from '../database/distributed.ts'
import { explainDatabaseError } from '../database/explain-error.ts'
import { NotMigratedError } from '../errors.ts'
import { BoundedPool } from './bounded-pool.ts'
import { createBoss } from './create-boss.ts'
import { endsWithin } from './ends-within.ts'
import { jobSeconds, takeFlushJobs } from './flush-job.ts'
import { type Explain, FlushReports } from './flush-reports.ts'
import { takeHistoryJobs } from './history-job.ts'
import { IntervalInForce } from './interval-in-force.ts'
import { Life, type Liveness } from './liveness.ts'
import { startObserving } from './observed.ts'
import {
  bossPollSeconds,
  type DailyJob,
  dailyPollSeconds,
  SYSTEM_CLOCK,
  takesTurns,
  takeTurns,
} from './poll.ts'
import { flushQueues } from './queue.ts'
import { writeFirstStats } from './queue-stats.ts'
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
import { findSdk } from './telemetry.ts'
import { waitForDatabase } from './wait-for-database.ts'
import { type FlushWorkerOptions, type WorkerSettings, workerSettings } from './worker-options.ts'
import { takePool } from './worker-pool.ts'

export type { FlushWorkerOptions } from './worker-options.ts'

/** The longest wait at a stop for the reports of the last flush and for the last turn, in ms. */
const LAST_WORDS_MS = 1_000

/** What one turn of the loop may take beside its poll, its question for a job, and the job, in seconds. */
const TURN_GRACE_SECONDS = 10

/** A running worker. */
export interface FlushWorker extends AsyncDisposable {
  /**
   * Finishes the flush that is running, then lets go of the database. If that takes longer than a flush may take plus 5
   * seconds, its connections are cut. A second call waits for the same stop.
   */
  stop(): Promise<void>

  /**
   * Tells whether this worker works: its loop has turned lately, and the database answers within 3 seconds. It says
   * nothing about what the flushes do. It never rejects. For a probe that restarts the process.
   */
  liveness(): Promise<Liveness>
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
 * @throws {DatabaseNotReadyError} If `waitSeconds` have passed. One of the errors above is its cause.
 */
export async function startFlushWorker(options: FlushWorkerOptions): Promise<FlushWorker> {
  const settings = workerSettings(options)
  return await waitForDatabase(() => start(settings), settings)
}

async function start(settings: WorkerSettings): Promise<FlushWorker> {
  const { logger, flushTimeoutSeconds } = settings
  const { pool, letGo: letGoOfPool } = takePool(settings.database, settings.schema, logger)
  let reports: FlushReports | undefined
  const reach = new Reach(logger, error => reports?.unreachable(error))
  const connections = new BoundedPool(pool, flushTimeoutSeconds, reach)
  // pg-boss's own statements do not go through `execute`, so their errors are explained here.
  const explain: Explain = async error => {
    const explained = explainDatabaseError(error, connections.schema ?? null)
    if (explained instanceof NotMigratedError) return await orNotCoordinator(connections, explained)
    return await explainPrivilegeError(connections, explained, 'worker')
  }
  let boss: PgBoss | undefined
  let running: Running | undefined
  let stopObserving = () => {}
  const ending = new AbortController()
  const letGo = async () => {
    ending.abort()
    stopObserving()
    const turns = running?.endTurns()
    if (boss) await stopInTime(boss, connections, jobSeconds(settings), logger)
    await endsWithin(Promise.all([turns, reports?.told]), LAST_WORDS_MS)
    await letGoOfPool()
  }
  try {
    await assertPoolSize(pool)
    await assertDriverFormat(connections)
    const queues = await flushQueues(connections)
    const queue = queues.flush
    reports = new FlushReports(queue, settings, explain)
    boss = await createBoss({ connections, queue, reach, reports, settings })
    running = await startFlushing({
      boss,
      queue,
      historyQueue: queues.history,
      connections,
      settings,
      ending: ending.signal,
    })
    reach.started()
    stopObserving = startObserving(queue, () => usageHealth(connections, settings.health))
    findSdk()
  } catch (error) {
    const explained = await explain(error)
    await letGo()
    throw explained
  }
  return stoppable(letGo, running.life)
}

/** What a worker is made of, once it has looked at the database. */
interface Parts {
  boss: PgBoss
  queue: string
  historyQueue: string
  connections: BoundedPool
  settings: WorkerSettings
  /** Aborted when the worker is stopped. */
  ending: AbortSignal
}

/** A worker that takes jobs. */
interface Running {
  life: Life
  endTurns(): Promise<void>
}

async function startFlushing(parts: Parts): Promise<Running> {
  const { boss, queue, connections, settings } = parts
  await assertSchema(boss)
  await boss.start()
  await assertPolicy(boss, queue)
  await assertMarksTable(connections, connections.schema)
  await assertNoRowSecurity(connections)
  const interval = new IntervalInForce(queue, settings.flushIntervalSeconds, settings.logger)
  await interval.tellReplaced(connections)
  await scheduleFlushes(boss, queue, settings.flushIntervalSeconds)
  // The first flush does not wait for the cron. It is sent before the handler is there, so it does not wait for a poll.
  await boss.send(queue)
  // Before the handler too: nothing may keep a worker that flushes from the host, which could not stop it.
  await writeFirstStats(boss, queue)
  const daily = await takeDailyJobs(parts)
  const pollSeconds = bossPollSeconds(settings.pollSeconds)
  const workerId = await takeFlushJobs(boss, queue, interval, pollSeconds, settings)
  const clock = settings.clock ?? SYSTEM_CLOCK
  const turnSeconds = pollSeconds + 2 * jobSeconds(settings) + TURN_GRACE_SECONDS
  return {
    life: new Life({ boss, queue, connections, clock, turnSeconds }),
    endTurns: takesTurns(settings.pollSeconds)
      ? startTurns(parts, interval, workerId, daily)
      : async () => {},
  }
}

async function takeDailyJobs({
  boss,
  historyQueue,
  connections,
  settings,
  ending,
}: Parts): Promise<DailyJob> {
  const { historyDays, logger } = settings
  const pollSeconds = dailyPollSeconds(settings.pollSeconds)
  const parts = {
    boss,
    queue: historyQueue,
    connection: connections,
    historyDays,
    pollSeconds,
    logger,
    ending,
  }
  return { queue: historyQueue, workerId: await takeHistoryJobs(parts), data: { historyDays } }
}

function startTurns(
  { boss, queue, connections, settings }: Parts,
  interval: IntervalInForce,
  workerId: string,
  daily: DailyJob,
): () => Promise<void> {
  const { pollSeconds, clock = SYSTEM_CLOCK } = settings
  return takeTurns({ boss, queue, workerId, interval, daily, connection: connections, pollSeconds, clock })
}

function stoppable(letGo: () => Promise<void>, life: Life): FlushWorker {
  let stopping: Promise<void> | undefined
  const stop = () => {
    stopping ??= letGo()
    return stopping
  }
  const liveness = async () =>
    stopping ? { alive: false, reason: 'the worker was stopped' } : await life.look()
  return { stop, liveness, [Symbol.asyncDispose]: stop }
}
