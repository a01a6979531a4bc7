import { HEALTH_OPTIONS } from '../activity/health.ts'
import { IDLE_OPTIONS } from '../activity/idle-options.ts'
import type { Queryable } from '../database/connection.ts'
import { A_POOL, type ConnectionPool } from '../database/pool.ts'
import { DURATION_WORDS, formatDuration, parseDuration } from '../duration.ts'
import type { Logger } from '../logger.ts'
import {
  A_LOGGER,
  checkOptions,
  integerWithin,
  numberWithin,
  type OptionRules,
  whatever,
  YES_OR_NO,
} from '../options.ts'
import type { ReapOutcome } from './outcome.ts'

/** The default of `limit`. */
export const DEFAULT_REAP_LIMIT = 500

/** The default of `maxPerMinute`. */
export const DEFAULT_REAPS_PER_MINUTE = 60

/** The default of `stopTimeoutSeconds`. */
export const DEFAULT_STOP_TIMEOUT_SECONDS = 10

/** What is known of a workspace that is about to be stopped. */
export interface IdleFacts {
  /** The last use. Null if the workspace was never used. */
  lastUsedAt: Date | null
  /** The source of the last use. Null if it is not known. */
  source: string | null
  /** When the workspace was created. Null if the host's table does not tell. */
  createdAt: Date | null
  /** Seconds since the last use, or since the creation of one that was never used, by the database's clock. */
  idleSeconds: number
  /** Aborted when the time for this stop is over. Nothing that is done later counts. */
  signal: AbortSignal
}

/**
 * Stops or deletes one workspace, or notes that it is to be stopped.
 *
 * @param client The transaction that holds the row of the workspace and has found it idle. What is changed through it is
 *   committed if this returns, and rolled back if this throws. It must not COMMIT itself.
 * @param workspaceId As PostgreSQL prints it.
 */
export type StopWorkspace = (client: Queryable, workspaceId: string, facts: IdleFacts) => unknown

/** From when on something is wrong enough that nothing is stopped. */
export interface ReapLimits {
  /** The lag that is still well, in seconds: 0 to 2,678,400. Default: that of {@link usageHealth}. */
  maxLagSeconds?: number
  /** How long a regular source may be silent, in seconds: 60 to 2,678,400. Default 3,600. */
  silentAfterSeconds?: number
}

/** What {@link reapIdle} and {@link startReaper} have in common. */
export interface ReapPolicy extends ReapLimits {
  /** How long a workspace must be idle: seconds from 1 to 3,162,240,000, or a text such as `30d` or `12h`. */
  idleFor: number | string
  /** Stops one workspace. It should be short, because all who update the workspace wait for it. */
  stop: StopWorkspace
  /** The most workspaces that one run stops: 1 to 1,000,000. It ends after as many failures too. Default 500. */
  limit?: number
  /** How many stops are begun in a minute, at most: 0.1 to 60,000. Default 60. */
  maxPerMinute?: number
  /** How long one stop may take, in seconds: 0.1 to 3,600. Then it has failed, and is rolled back. Default 10. */
  stopTimeoutSeconds?: number
  /**
   * Whether to stop workspaces again that a reaper has stopped before, though nobody has used them since. Default false.
   * Set it if `stop` itself looks whether the workspace runs.
   */
  again?: boolean
  /** Called after each workspace, and awaited. What it throws ends the run. */
  onOutcome?: (outcome: ReapOutcome) => unknown
}

/** Options of {@link reapIdle}. */
export interface ReapOptions extends ReapPolicy {
  /** The database. One connection is used at a time. The role needs what `workspace-usage grant --reaper` gives. */
  pool: ConnectionPool
  /** Only list what would be stopped. `stop` is not called, and nothing is written. Default false. */
  dryRun?: boolean
  /** If it is aborted, the run ends after the workspace that is being stopped. */
  signal?: AbortSignal
  /** Logs each stop and each failure. Default: no log. */
  logger?: Logger
}

const [SHORTEST, LONGEST] = IDLE_OPTIONS.idleForSeconds.range!

const IDLE_FOR = whatever(
  `${IDLE_OPTIONS.idleForSeconds.words}, or ${DURATION_WORDS}, from ${formatDuration(SHORTEST)} to ${formatDuration(LONGEST)}`,
  value => IDLE_OPTIONS.idleForSeconds.accepts(typeof value === 'string' ? parseDuration(value) : value),
)

const A_FUNCTION = whatever('a function', value => typeof value === 'function')

/** What the options that {@link reapIdle} and {@link startReaper} have in common may be. */
export const POLICY_RULES: OptionRules<ReapPolicy> = {
  idleFor: IDLE_FOR,
  stop: A_FUNCTION,
  limit: integerWithin(1, 1_000_000),
  maxPerMinute: numberWithin(0.1, 60_000),
  stopTimeoutSeconds: numberWithin(0.1, 3_600, 'seconds'),
  again: YES_OR_NO,
  onOutcome: A_FUNCTION,
  maxLagSeconds: HEALTH_OPTIONS.maxLagSeconds,
  silentAfterSeconds: HEALTH_OPTIONS.silentAfterSeconds,
}

/** What the options of {@link reapIdle} may be. */
export const REAP_OPTIONS: OptionRules<ReapOptions> = {
  ...POLICY_RULES,
  pool: A_POOL,
  dryRun: YES_OR_NO,
  signal: whatever('an AbortSignal', value => value instanceof AbortSignal),
  logger: A_LOGGER,
}

const NO_LOGGER: Logger = { debug() {}, info() {}, warn() {}, error() {} }

/** Options with their defaults. */
export interface ReapSettings extends Required<Omit<ReapOptions, 'idleFor' | keyof ReapLimits>> {
  idleForSeconds: number
  limits: ReapLimits
}

/**
 * Checks the options and fills in the defaults.
 *
 * @throws {InvalidOptionError} If an option is not what its rule allows, or a required one is missing.
 * @throws {UnknownOptionError} If there is no such option.
 */
export function reapSettings(options: ReapOptions): ReapSettings {
  checkOptions(options, REAP_OPTIONS, ['pool', 'idleFor', 'stop'])
  const { pool, idleFor, stop, maxLagSeconds, silentAfterSeconds } = options
  const { limit = DEFAULT_REAP_LIMIT, maxPerMinute = DEFAULT_REAPS_PER_MINUTE } = options
  const { stopTimeoutSeconds = DEFAULT_STOP_TIMEOUT_SECONDS, again = false, dryRun = false } = options
  const { onOutcome = () => {}, signal = new AbortController().signal, logger = NO_LOGGER } = options
  return {
    pool,
    idleForSeconds: typeof idleFor === 'string' ? parseDuration(idleFor)! : idleFor,
    stop,
    limit,
    maxPerMinute,
    stopTimeoutSeconds,
    again,
    dryRun,
    onOutcome,
    signal,
    logger,
    limits: {
      ...(maxLagSeconds !== undefined && { maxLagSeconds }),
      ...(silentAfterSeconds !== undefined && { silentAfterSeconds }),
    },
  }
}
