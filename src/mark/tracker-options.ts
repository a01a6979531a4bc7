import type { Logger } from '../logger.ts'
import { A_LOGGER, checkOptions, integerWithin, type OptionRules } from '../options.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import type { BatchOptions } from './batch.ts'
import { ID_TYPE_OPTION } from './id-type.ts'
import { assertSource, SOURCE_OPTION } from './source.ts'
import { standardErrorLogger } from './standard-error-logger.ts'
import type { UsageTracker } from './tracker.ts'

/** The defaults of a tracker's options, and of the one of `close`. */
export const DEFAULTS = { maxPending: 1_000_000, statementTimeoutMs: 10_000, closeTimeoutMs: 10_000 }

/** Options of {@link UsageTracker}. */
export interface UsageTrackerOptions {
  /**
   * Who says that the workspaces are in use: 1 to 63 characters, one of few (`ssh`, `vscode`, …), never an id.
   * Default: the connection's `application_name`, or `unknown` where that is empty. The metrics call that source
   * `application_name`, because only the database knows it.
   */
  source?: string
  /**
   * The type of `workspaces.id` in the database: `uuid`, `bigint`, `integer`, or `text` (`varchar` too). Default `uuid`.
   * If it is another one, each statement is refused. Then the tracker logs a {@link WorkspaceIdTypeError} and keeps the
   * marks.
   */
  idType?: WorkspaceIdType
  /**
   * The number of distinct ids that may wait for the database, from 1 to 16,000,000. A million takes about 80 MB.
   * Above it new ids are dropped, counted in {@link UsageTrackerStats.dropped} and logged once per outage.
   * Default 1,000,000.
   */
  maxPending?: number
  /**
   * Milliseconds to wait for a connection, and again for the answer to a statement: an integer from 100 to 3,600,000.
   * A connection that misses it is destroyed, and the marks are sent again. Default 10,000.
   */
  statementTimeoutMs?: number
  /**
   * Logs outages, recoveries and losses. A pino logger fits. Default: lines of JSON in pino's form on standard error,
   * so that no loss is silent and standard output stays the program's own.
   */
  logger?: Logger
}

/** What the options of {@link UsageTracker} may be. */
export const TRACKER_OPTIONS: OptionRules<UsageTrackerOptions> = {
  source: SOURCE_OPTION,
  idType: ID_TYPE_OPTION,
  maxPending: integerWithin(1, 16_000_000),
  statementTimeoutMs: integerWithin(100, 3_600_000, 'milliseconds'),
  logger: A_LOGGER,
}

/** What a tracker works with. */
export interface TrackerSettings {
  marks: BatchOptions
  maxPending: number
  statementTimeoutMs: number
  logger: Logger
}

/** Checks the options of a tracker, and fills in the defaults. */
export function trackerSettings(options: UsageTrackerOptions): TrackerSettings {
  checkOptions(options, TRACKER_OPTIONS)
  const { source, idType = 'uuid', maxPending = DEFAULTS.maxPending, logger = standardErrorLogger } = options
  const { statementTimeoutMs = DEFAULTS.statementTimeoutMs } = options
  const marks = { source: source === undefined ? undefined : assertSource(source), idType }
  return { marks, maxPending, statementTimeoutMs, logger }
}

/** Counts since the tracker was made. `marked` is always the sum of the next four. */
export interface UsageTrackerStats {
  /** Calls of `mark` with a well-formed id, before `close`. */
  marked: number
  /** Of them, answered from memory. The id was already stored in the open period, or was about to be sent. */
  deduplicated: number
  /** Of them, stored by a statement of this tracker. */
  stored: number
  /** Of them, not known to be stored yet: they wait, are under way, or are tried again. */
  pending: number
  /** Of them, lost because `maxPending` ids were waiting. */
  dropped: number
  /** Statements that failed. Their marks are pending until one succeeds. */
  failedAttempts: number
}

/** Options of {@link UsageTracker.close}. */
export interface CloseOptions {
  /** Milliseconds to wait for the database: an integer from 0 to 2,147,483,647. Default 10,000. */
  timeoutMs?: number
}

/** What the options of {@link UsageTracker.close} may be. */
export const CLOSE_OPTIONS: OptionRules<CloseOptions> = { timeoutMs: integerWithin(0, 2_147_483_647) }

/** What {@link UsageTracker.close} left undone. */
export interface CloseResult {
  /** Distinct ids that are not known to be stored. 0 unless the timeout passed. */
  left: number
}
