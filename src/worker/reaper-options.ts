import type { ConnectionPool } from '../database/pool.ts'
import type { Logger } from '../logger.ts'
import { checkOptions, numberWithin, type OptionRules, whatever } from '../options.ts'
import { POLICY_RULES, type ReapPolicy } from '../reaper/reap-options.ts'
import { WORKER_OPTIONS } from './worker-options.ts'

/** The default of `cron`: the start of each hour. */
export const DEFAULT_REAP_CRON = '0 * * * *'

/** Options of {@link startReaper}. */
export interface ReaperOptions extends ReapPolicy {
  /**
   * The database: a connection string or a `pg` Pool of at least two connections. For a string the reaper opens a pool of
   * its own. The role needs what `workspace-usage grant --reaper` gives.
   */
  database: string | ConnectionPool
  /** The schema of this package's tables, see {@link FlushWorkerOptions.schema}. Default: `search_path` leads to them. */
  schema?: string
  /** Logs each stop, each failure, and each run. */
  logger: Logger
  /**
   * When it runs: a cron expression of five fields. Default {@link DEFAULT_REAP_CRON}. All reapers of a schema share one
   * schedule. The one that started last sets it.
   */
  cron?: string
  /** The time zone of `cron`, such as `Europe/Berlin`. Default `UTC`. */
  timeZone?: string
  /** Seconds between two questions for a run that is due: 0.5 to 3,600. Default 30. */
  pollSeconds?: number
  /** Seconds to wait at the start for the database, see {@link FlushWorkerOptions.waitSeconds}. Default 0. */
  waitSeconds?: number
  /** Ends a start that is not done. Once the reaper runs it does nothing, see {@link Reaper.stop}. */
  signal?: AbortSignal
}

const FIELD = String.raw`[\d*/,\-A-Za-z#?]+`
const CRON = new RegExp(`^${FIELD}( ${FIELD}){4}$`)

/** What the options of {@link startReaper} may be. */
export const REAPER_OPTIONS: OptionRules<ReaperOptions> = {
  ...POLICY_RULES,
  database: WORKER_OPTIONS.database,
  schema: WORKER_OPTIONS.schema,
  logger: WORKER_OPTIONS.logger,
  cron: whatever(
    `a cron expression of five fields, such as "${DEFAULT_REAP_CRON}"`,
    value => typeof value === 'string' && CRON.test(value),
  ),
  timeZone: whatever('a time zone such as UTC or Europe/Berlin', isTimeZone),
  pollSeconds: numberWithin(0.5, 3_600, 'seconds'),
  waitSeconds: WORKER_OPTIONS.waitSeconds,
  signal: WORKER_OPTIONS.signal,
}

function isTimeZone(value: unknown): boolean {
  try {
    return typeof value === 'string' && new Intl.DateTimeFormat('en', { timeZone: value }) !== null
  } catch {
    return false
  }
}

/** Options with their defaults. */
export interface ReaperSettings
  extends Required<
    Pick<ReaperOptions, 'database' | 'logger' | 'cron' | 'timeZone' | 'pollSeconds' | 'waitSeconds'>
  > {
  policy: ReapPolicy
  signal: AbortSignal | undefined
  schema: string | undefined
}

/**
 * Checks the options and fills in the defaults.
 *
 * @throws {InvalidOptionError} If an option is not what its rule allows, or a required one is missing.
 * @throws {UnknownOptionError} If there is no such option.
 */
export function reaperSettings(options: ReaperOptions): ReaperSettings {
  checkOptions(options, REAPER_OPTIONS, ['database', 'logger', 'idleFor', 'stop'])
  const { database, schema, logger, signal, cron = DEFAULT_REAP_CRON, timeZone = 'UTC', ...rest } = options
  const { pollSeconds = 30, waitSeconds = 0, ...policy } = rest
  return { database, schema, logger, signal, cron, timeZone, pollSeconds, waitSeconds, policy }
}
