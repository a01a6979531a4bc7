import { integerWithin, numberWithin, type OptionRules, YES_OR_NO } from '../options.ts'

const A_MONTH = 31 * 86_400

/** The default of `maxLagSeconds`: three flushes. */
export const DEFAULT_MAX_LAG_SECONDS = 180

/** Options of {@link usageHealth}: from where on something is a problem. */
export interface HealthOptions {
  /**
   * The lag that is still well, in seconds: 0 to 2,678,400. Default {@link DEFAULT_MAX_LAG_SECONDS}, or the interval of
   * the schedule and 120 seconds, if that is more.
   */
  maxLagSeconds?: number
  /** How long a regular source may be silent, in seconds: 60 to 2,678,400. Default 3,600. */
  silentAfterSeconds?: number
  /** How long marks may be held, in seconds from the end of their period: 0 to 2,678,400. Default 600. */
  heldAfterSeconds?: number
  /** How long a reset of the pending marks is told, in seconds: 0 to 2,678,400. Default 86,400: a day. */
  resetWithinSeconds?: number
  /** How long a transaction may keep VACUUM back, in seconds: 1 to 2,678,400. Default 600. */
  oldTransactionSeconds?: number
  /** How large `pending_usage` may be whatever it holds, in bytes: 0 to 1 TiB. Default 64 MiB. */
  bloatBytes?: number
  /** Whether `pending_usage` is an ordinary table on purpose (`ALTER TABLE … SET LOGGED`). Default false. */
  loggedMarks?: boolean
  /** How long the verdict may take, in seconds: 0.1 to 60. Default 5. If it takes longer, there is none. */
  timeoutSeconds?: number
}

/** What the options of {@link usageHealth} may be. */
export const HEALTH_OPTIONS: OptionRules<HealthOptions> = {
  maxLagSeconds: numberWithin(0, A_MONTH, 'seconds'),
  silentAfterSeconds: numberWithin(60, A_MONTH, 'seconds'),
  heldAfterSeconds: numberWithin(0, A_MONTH, 'seconds'),
  resetWithinSeconds: numberWithin(0, A_MONTH, 'seconds'),
  oldTransactionSeconds: numberWithin(1, A_MONTH, 'seconds'),
  bloatBytes: integerWithin(0, 2 ** 40, 'bytes'),
  loggedMarks: YES_OR_NO,
  timeoutSeconds: numberWithin(0.1, 60, 'seconds'),
}

/** Options with their defaults. That of the lag depends on the schedule: it is null then. */
export type HealthLimits = Required<Omit<HealthOptions, 'maxLagSeconds'>> & { maxLagSeconds: number | null }

const DEFAULTS: HealthLimits = {
  maxLagSeconds: null,
  silentAfterSeconds: 3_600,
  heldAfterSeconds: 600,
  resetWithinSeconds: 86_400,
  oldTransactionSeconds: 600,
  bloatBytes: 64 * 1_024 * 1_024,
  loggedMarks: false,
  timeoutSeconds: 5,
}

/** Fills in the defaults. An option that is undefined counts as left out. */
export function healthLimits(options: HealthOptions): HealthLimits {
  const given = Object.entries(options).filter(([, value]) => value !== undefined)
  return { ...DEFAULTS, ...Object.fromEntries(given) }
}
