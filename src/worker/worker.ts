import { setTimeout } from 'node:timers/promises'
import { type Db, type Job, PgBoss, policies, type QueueOptions } from 'pg-boss'
import { explainPrivilegeError } from '../access/refusal.ts'
import { explainDatabaseError } from '../database/connection.ts'
import { type ConnectionPool, createPool, type OwnedPool } from '../database/pool.ts'
import { sqlState } from '../database/sql-state.ts'
import { InvalidOptionError, NotMigratedError, QueuePolicyError } from '../errors.ts'
import {
  DEFAULT_BATCH_SIZE,
  FLUSH_OPTIONS,
  type FlushPosition,
  type FlushResult,
  flush,
} from '../flush/flush.ts'
import { pendingUsageWasEmptied } from '../flush/witness.ts'
import type { Logger } from '../logger.ts'
import { checkOption } from '../options.ts'
import type { Clock } from './clock.ts'
import { flushInterval } from './flush-interval.ts'
import { FlushLog } from './flush-log.ts'
import { JobDatabase } from './job-transaction.ts'
import { FAILED_FLUSH_QUEUE, FLUSH_QUEUE, type FlushJobOutput } from './queue.ts'
import { mayKeepQueueStats } from './queue-stats.ts'

/**
 * One job queued, any number active: overlapping flushes are made safe by row locks, so the active job of a killed
 * worker blocks nobody. `exclusive` or `stately` would wait for that job to expire.
 */
const FLUSH_POLICY = policies.short

const FLUSH_QUEUE_OPTIONS = {
  expireInSeconds: 30,
  retryLimit: 3,
  retryDelay: 1,
  retryBackoff: true,
  retryDelayMax: 15,
  retentionSeconds: 3_600,
  deleteAfterSeconds: 3_600,
} satisfies QueueOptions

/** Beside the cron's key: a chain of batches goes on although the next regular flush is queued already. */
const DRAIN_KEY = 'drain'

/** Seconds that a flush transaction outlives its statement at most: for completing the job and committing. */
const COMMIT_GRACE_SECONDS = 2

const MAX_FLUSH_TIMEOUT_SECONDS = 25

/** What a job carries: where the drain goes on. Nothing for a regular flush. */
interface FlushJobData {
  resume?: FlushPosition | null
}

/** Options of {@link startFlushWorker}. */
export interface FlushWorkerOptions {
  /**
   * The database: a connection string, for which the worker has a pool of its own, or a `pg` Pool, which stays the
   * caller's. Needs four connections, and session state only within a transaction.
   */
  database: string | ConnectionPool
  /** Told of every flush and failure, see the README for the messages. */
  logger: Logger
  /**
   * Seconds between flushes: 1 to 59, or whole minutes that divide an hour. Default 60. The schedule is one for all
   * workers of a database: the one that started last sets it.
   */
  flushIntervalSeconds?: number
  /** Marks per flush at most, see {@link FlushOptions.batchSize}. Default {@link DEFAULT_BATCH_SIZE}. */
  batchSize?: number
  /** Whether `workspace_usage` is kept, see {@link FlushOptions.sources}. Default true. */
  sources?: boolean
  /** Seconds after which the server cancels a flush: 0.1 to 25. Default 10. Its marks stay pending. */
  flushTimeoutSeconds?: number
  /** pg-boss's clock, for tests: its `TestClock`. Default: the system's. */
  clock?: Clock
}

/** A running worker. */
export interface FlushWorker extends AsyncDisposable {
  /** Finishes the flush in hand, then lets go of the database. Calling it again waits for the same stop. */
  stop(): Promise<void>
}

/**
 * Starts a worker: pg-boss with its cron, and a handler that runs one flush per job, in the transaction that
 * completes the job. Any number of workers may run. Needs no right to create anything.
 *
 * @throws {InvalidOptionError} If an option is out of its range; nothing is connected then.
 * @throws {NotMigratedError} If pg-boss, the queue or `pending_usage` is not installed.
 * @throws {QueuePolicyError} If the queue has another policy than the one the worker relies on.
 * @throws {StandbyError} On a standby, or if the database's sessions are read-only.
 * @throws {InsufficientPrivilegeError} If the role lacks what `workspace-usage grant --worker` gives.
 */
export async function startFlushWorker(options: FlushWorkerOptions): Promise<FlushWorker> {
  const {
    database,
    logger,
    batchSize = DEFAULT_BATCH_SIZE,
    sources = true,
    flushTimeoutSeconds = 10,
    clock,
  } = options
  const interval = flushInterval(options.flushIntervalSeconds ?? 60)
  checkOption('batchSize', batchSize, FLUSH_OPTIONS.batchSize)
  assertFlushTimeout(flushTimeoutSeconds)
  const own = typeof database === 'string' ? openPool(database, logger) : undefined
  const pool = own ?? (database as ConnectionPool)
  // An idle connection that breaks is no failure, but ends the process if nobody listens.
  const onIdleError = (error: Error) => logger.warn({ err: error }, 'an idle database connection broke')
  if (!own) pool.on('error', onIdleError)
  const letGoOfPool = async () => {
    if (own) await own.end()
    else pool.removeListener('error', onIdleError)
  }
  const persistQueueStats = await mayKeepQueueStats(pool).catch(async error => {
    await letGoOfPool()
    throw explainDatabaseError(error)
  })
  const log = new FlushLog(logger)
  // What the handler did in the transaction that has not ended yet.
  let inHand: { result: FlushResult; durationMs: number; emptied: boolean } | undefined
  let thrown: unknown
  const tellFailure = async (error: unknown) => {
    log.failed(await explainPrivilegeError(pool, explainDatabaseError(error), 'worker'))
  }
  const jobDatabase = new JobDatabase(pool, outcome => {
    if (!outcome.committed) void tellFailure(thrown ?? outcome.error)
    else if (inHand) {
      if (inHand.emptied) log.emptied()
      log.flushed(inHand.result, inHand.durationMs)
    }
    inHand = thrown = undefined
  })
  const boss = new PgBoss({
    db: jobDatabase,
    migrate: false,
    createSchema: false,
    persistWarnings: true,
    persistQueueStats,
    ...(clock && { clock }),
  })
  const letGo = async () => {
    await boss.stop({ graceful: true, timeout: (flushTimeoutSeconds + COMMIT_GRACE_SECONDS) * 1_000 })
    await letGoOfPool()
  }
  boss.on('error', error => {
    if ('queue' in error && error.queue === FLUSH_QUEUE) void tellFailure(error)
    else logger.error({ err: error }, 'pg-boss failed at something other than a flush')
  })
  boss.on('warning', warning => logger.warn({ ...warning }, 'pg-boss warns'))

  try {
    await startInstalled(boss)
    await assertPolicy(boss)
    await assertMarksTable(pool)
    await schedule(boss, interval.cron)
    // The first flush need not wait for the cron. Before the handler, which then need not wait for its next poll.
    await boss.send(FLUSH_QUEUE)
    const runJob = async ({ resume = null }: FlushJobData, transaction: Db): Promise<FlushJobOutput> => {
      if (interval.deferSeconds !== null) {
        // Before the flush and outside its transaction: a worker that is killed in mid-flush leaves the next one.
        await boss.send(FLUSH_QUEUE, null, { startAfter: interval.deferSeconds })
      }
      const started = performance.now()
      await limitStatements(transaction, flushTimeoutSeconds)
      const connection = { query: transaction.executeSql }
      const emptied = await pendingUsageWasEmptied(connection)
      const result = await flush(connection, { batchSize, sources, resume })
      inHand = { result, durationMs: performance.now() - started, emptied }
      const { resume: next, ...output } = result
      if (result.full) {
        await boss.send(FLUSH_QUEUE, { resume: next }, { db: transaction, singletonKey: DRAIN_KEY })
        boss.notifyWorker(workerId)
      }
      return emptied ? { ...output, emptied } : output
    }
    const workerId: string = await boss.work(
      FLUSH_QUEUE,
      {
        transactional: true,
        transactionTimeoutSeconds: Math.ceil(flushTimeoutSeconds) + COMMIT_GRACE_SECONDS,
        pollingIntervalSeconds: interval.deferSeconds === null ? 2 : 0.5,
      },
      ([job]: Job<FlushJobData | null>[], transaction) =>
        runJob(job?.data ?? {}, transaction).catch(error => {
          thrown = error
          throw error
        }),
    )
  } catch (error) {
    const explained = await explainPrivilegeError(pool, explainDatabaseError(error), 'worker')
    await letGo()
    throw explained
  }

  let stopping: Promise<void> | undefined
  const stop = () => {
    stopping ??= letGo()
    return stopping
  }
  return { stop, [Symbol.asyncDispose]: stop }
}

/** What {@link installQueue} found or made. */
export interface QueueInstallation {
  queue: string
  /** pg-boss's schema version. */
  schemaVersion: number
  /** The schedule's cron expression: a worker's, or the default until one has started. */
  cron: string
}

/**
 * Installs or upgrades pg-boss's schema, the queues and the schedule. The only place where pg-boss gets to create
 * anything; safe to repeat, and a schedule that a worker has set is left alone.
 *
 * @throws {QueuePolicyError} If the queue exists with another policy.
 */
export async function installQueue(pool: ConnectionPool, logger: Logger): Promise<QueueInstallation> {
  const boss = new PgBoss({
    db: new JobDatabase(pool, () => {}),
    supervise: false,
    schedule: false,
    bamIntervalSeconds: 10,
  })
  boss.on('error', error => logger.error({ err: error }, 'pg-boss failed'))
  boss.on('warning', warning => logger.warn({ ...warning }, 'pg-boss warns'))
  await boss.start()
  try {
    await finishBackgroundMigrations(boss, logger)
    await boss.createQueue(FAILED_FLUSH_QUEUE, { retentionSeconds: 604_800, deleteAfterSeconds: 604_800 })
    await boss.createQueue(FLUSH_QUEUE, { policy: FLUSH_POLICY })
    await assertPolicy(boss)
    await boss.updateQueue(FLUSH_QUEUE, { ...FLUSH_QUEUE_OPTIONS, deadLetter: FAILED_FLUSH_QUEUE })
    const existing = await boss.getSchedule(FLUSH_QUEUE)
    const cron = existing?.cron ?? flushInterval(60).cron
    await schedule(boss, cron)
    return { queue: FLUSH_QUEUE, schemaVersion: (await boss.schemaVersion()) ?? 0, cron }
  } finally {
    await boss.stop({ graceful: true })
  }
}

/** An upgrade of pg-boss may build indexes in the background, which only an instance that may migrate does. */
async function finishBackgroundMigrations(boss: PgBoss, logger: Logger): Promise<void> {
  for (;;) {
    const status = await boss.getBamStatus()
    const open = status.filter(({ status }) => status === 'pending' || status === 'in_progress')
    if (open.length === 0) return
    logger.info(
      { commands: open.reduce((sum, { count }) => sum + Number(count), 0) },
      'pg-boss is building indexes',
    )
    await setTimeout(1_000)
  }
}

async function startInstalled(boss: PgBoss): Promise<void> {
  if (!(await boss.isInstalled())) throw new NotMigratedError('pg-boss is not installed')
  try {
    await boss.start()
  } catch (error) {
    // pg-boss has no error of its own for a schema that is older or newer than it; the database's errors have a code.
    if (sqlState(error) || (error instanceof Error && 'code' in error)) throw error
    throw new NotMigratedError((error as Error).message, { cause: error })
  }
}

/** A database that was migrated down again still has pg-boss and the queue. */
async function assertMarksTable(pool: ConnectionPool): Promise<void> {
  await pool.query('SELECT FROM pending_usage LIMIT 0')
}

async function assertPolicy(boss: PgBoss): Promise<void> {
  const queue = await boss.getQueue(FLUSH_QUEUE)
  if (!queue) throw new NotMigratedError(`the pg-boss queue "${FLUSH_QUEUE}" does not exist`)
  const policy = queue.policy ?? policies.standard
  if (policy !== FLUSH_POLICY) throw new QueuePolicyError(FLUSH_QUEUE, policy, FLUSH_POLICY)
}

/** `once`: after an outage of all workers, one flush at once and not one for every minute missed. */
async function schedule(boss: PgBoss, cron: string): Promise<void> {
  await boss.schedule(FLUSH_QUEUE, cron, null, { missed: 'once' })
}

/**
 * pg-boss's own limit needs PostgreSQL 17 for a transaction that is busy, and ends the session; this one holds on
 * every version and cancels the statement. A tighter limit that the role or the database sets stays in force.
 */
async function limitStatements(transaction: Db, seconds: number): Promise<void> {
  const text = `SELECT set_config('statement_timeout', least($1::bigint, nullif(setting::bigint, 0))::text, true)
    FROM pg_settings WHERE name = 'statement_timeout'`
  await transaction.executeSql(text, [Math.round(seconds * 1_000)])
}

function assertFlushTimeout(seconds: number): void {
  if (!(seconds >= 0.1 && seconds <= MAX_FLUSH_TIMEOUT_SECONDS)) {
    throw new InvalidOptionError('flushTimeoutSeconds', seconds, `0.1 to ${MAX_FLUSH_TIMEOUT_SECONDS}`)
  }
}

function openPool(connectionString: string, logger: Logger): OwnedPool {
  return createPool(connectionString, { applicationName: 'workspace-usage worker', max: 5, logger })
}
