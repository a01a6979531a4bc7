import { HEALTH_OPTIONS, type HealthOptions } from '../activity/health.ts'
import { A_POOL, type ConnectionPool } from '../database/pool.ts'
import { A_SCHEMA } from '../database/schema-path.ts'
import { DEFAULT_BATCH_SIZE, DEFAULT_UNKNOWN_AFTER_SECONDS, FLUSH_OPTIONS } from '../flush/flush.ts'
import { DEFAULT_HISTORY_DAYS, HISTORY_DAYS } from '../history/clear-history.ts'
import type { Logger } from '../logger.ts'
import {
  A_LOGGER,
  checkOptions,
  hasMethods,
  numberWithin,
  type OptionRules,
  whatever,
  YES_OR_NO,
} from '../options.ts'
import type { Clock } from './clock.ts'
import type { FlushHooks } from './events.ts'
import { DEFAULT_FLUSH_INTERVAL_SECONDS, FLUSH_INTERVAL, flushInterval } from './flush-interval.ts'

/** The default number of seconds that a flush may take. */
export const DEFAULT_FLUSH_TIMEOUT_SECONDS = 10

/** The longest wait for the database at a start, in seconds. */
const A_DAY = 24 * 3_600

/** Options of {@link startFlushWorker}. */
export interface FlushWorkerOptions extends FlushHooks {
  /**
   * The database: a connection string or a `pg` Pool. For a string the worker opens a pool of its own. A pool stays the
   * caller's. The worker needs four connections. It keeps no state in a session beyond a transaction.
   */
  database: string | ConnectionPool
  /**
   * The schema of this package's tables, as in {@link migrate}, whatever `search_path` is. A pooler can't drop it.
   * Default: `search_path` leads to them, or {@link inSchema} has named one for the pool.
   */
  schema?: string
  /** Logs every flush and failure. `docs/worker.md` lists the messages. */
  logger: Logger
  /**
   * Seconds between flushes: 1 to 59, or whole minutes that divide an hour. Default 60. All workers of a schema share
   * one schedule. The worker that started last sets it, and the others follow it.
   */
  flushIntervalSeconds?: number
  /** The most marks per flush, see {@link FlushOptions.batchSize}. Default {@link DEFAULT_BATCH_SIZE}. */
  batchSize?: number
  /** Whether flushes write `workspace_usage`, see {@link FlushOptions.sources}. Default true. */
  sources?: boolean
  /**
   * The days of history that are kept: an integer from 0 to 3,660. 0 keeps only the last use by each source, and flushes
   * write no history. Default {@link DEFAULT_HISTORY_DAYS}. Older days are removed once a day. All workers of a schema
   * share that job, and the one that started last says how many days.
   */
  historyDays?: number
  /**
   * How long marks of a workspace that does not exist are kept, in seconds, see
   * {@link FlushOptions.unknownAfterSeconds}. Default {@link DEFAULT_UNKNOWN_AFTER_SECONDS}.
   */
  unknownAfterSeconds?: number
  /** Seconds after which the server cancels a flush: 0.1 to 25. Its marks stay pending. Default 10. */
  flushTimeoutSeconds?: number
  /**
   * Seconds between two questions of an idle worker for jobs: 0.5 to 3,600. Default 5, and 0.5 if the flush interval is
   * below a minute.
   *
   * A flush may start so much later, so the lag grows by as much. Raise the limit of your alert with it. Above 5
   * seconds, the worker does all that it does at one time, and leaves the database alone in between. It then sends the
   * job of the schedule itself, at most one for each flush interval.
   */
  pollSeconds?: number
  /**
   * Seconds to wait at the start for a database that is not there, not migrated or not granted yet: 0 to 86,400. The
   * worker then tries once a second, and logs why it waits. Errors that do not pass by themselves, such as a wrong
   * password, end the start at once. Default 0: the first failure ends it.
   */
  waitSeconds?: number
  /**
   * Ends a start that is not done: it rejects with the reason of the signal, after the attempt that is under way. Once
   * the worker runs it does nothing, see {@link FlushWorker.stop}.
   */
  signal?: AbortSignal
  /** The limits of the health verdict that the metrics tell. Default: those of {@link usageHealth}. */
  health?: HealthOptions
  /** The clock of pg-boss. A test can pass pg-boss's `TestClock`. Default: the system's clock. */
  clock?: Clock
}

const A_FUNCTION = whatever('a function', value => typeof value === 'function')

/** What the options of {@link startFlushWorker} may be. */
export const WORKER_OPTIONS: OptionRules<FlushWorkerOptions> = {
  database: whatever(
    'a connection string such as postgres://user@host:5432/database, or a pg Pool',
    value => typeof value === 'string' || A_POOL.accepts(value),
  ),
  schema: A_SCHEMA,
  logger: A_LOGGER,
  flushIntervalSeconds: FLUSH_INTERVAL,
  batchSize: FLUSH_OPTIONS.batchSize,
  sources: YES_OR_NO,
  historyDays: HISTORY_DAYS,
  unknownAfterSeconds: FLUSH_OPTIONS.unknownAfterSeconds,
  // It must be below the 30 seconds after which pg-boss gives up a job.
  flushTimeoutSeconds: numberWithin(0.1, 25, 'seconds'),
  pollSeconds: numberWithin(0.5, 3_600, 'seconds'),
  waitSeconds: numberWithin(0, A_DAY, 'seconds'),
  signal: whatever('an AbortSignal', value => value instanceof AbortSignal),
  health: whatever(
    'an object with options of usageHealth',
    value => typeof value === 'object' && value !== null,
  ),
  clock: hasMethods("pg-boss's TestClock, or an object with the methods of Clock", [
    'now',
    'setTimeout',
    'clearTimeout',
    'setInterval',
    'clearInterval',
  ]),
  onFlush: A_FUNCTION,
  onFailure: A_FUNCTION,
  onReset: A_FUNCTION,
}

/** Options with their defaults. */
export type WorkerSettings = Required<
  Omit<FlushWorkerOptions, 'schema' | 'clock' | 'signal' | keyof FlushHooks>
> & {
  schema: string | undefined
  signal: AbortSignal | undefined
  clock: Clock | undefined
  hooks: FlushHooks
}

/**
 * Checks the options and fills in the defaults.
 *
 * @throws {InvalidOptionError} If an option is not what its rule allows, or a required one is missing.
 * @throws {UnknownOptionError} If there is no such option.
 */
export function workerSettings(options: FlushWorkerOptions): WorkerSettings {
  checkOptions(options, WORKER_OPTIONS, ['database', 'logger'])
  const { database, schema, logger, clock, signal, onFlush, onFailure, onReset } = options
  const { flushIntervalSeconds = DEFAULT_FLUSH_INTERVAL_SECONDS, batchSize = DEFAULT_BATCH_SIZE } = options
  const { unknownAfterSeconds = DEFAULT_UNKNOWN_AFTER_SECONDS } = options
  const {
    sources = true,
    historyDays = DEFAULT_HISTORY_DAYS,
    flushTimeoutSeconds = DEFAULT_FLUSH_TIMEOUT_SECONDS,
  } = options
  const { waitSeconds = 0, health = {} } = options
  checkOptions(health, HEALTH_OPTIONS)
  const pollsOften = flushInterval(flushIntervalSeconds).deferSeconds !== null
  const { pollSeconds = pollsOften ? 0.5 : 5 } = options
  return {
    database,
    schema,
    logger,
    clock,
    signal,
    hooks: { onFlush, onFailure, onReset },
    flushIntervalSeconds,
    batchSize,
    sources,
    historyDays,
    unknownAfterSeconds,
    flushTimeoutSeconds,
    pollSeconds,
    waitSeconds,
    health,
  }
}
