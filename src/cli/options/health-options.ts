import type { Option } from 'commander'
import { HEALTH_OPTIONS, type HealthOptions } from '../../activity/health.ts'
import { numberAllowedBy } from './parsers.ts'
import { switchOption, VariableOption } from './variable-option.ts'

/** The options of every command that judges by the verdict, beside its own `--max-lag`. */
export interface VerdictOptions {
  maxLag?: number
  silentAfter?: number
  loggedMarks: boolean
}

/** `--silent-after` and `--logged-marks`. */
export function verdictOptions(): Option[] {
  return [
    new VariableOption(
      '--silent-after <seconds>',
      'warn of a regular source that was not seen for this long',
      'WORKSPACE_USAGE_SILENT_AFTER',
    ).argParser(numberAllowedBy(HEALTH_OPTIONS.silentAfterSeconds)),
    switchOption(
      '--logged-marks',
      'do not warn if pending_usage is not UNLOGGED',
      'WORKSPACE_USAGE_LOGGED_MARKS',
    ),
  ]
}

/** `status --max-lag` has no upper end, and the verdict has one. */
const MOST_LAG = HEALTH_OPTIONS.maxLagSeconds.range![1]

/** The same as options of `usageHealth`. What is not given has its default. */
export function healthOptions({ maxLag, silentAfter, loggedMarks }: VerdictOptions): HealthOptions {
  return {
    ...(maxLag !== undefined && { maxLagSeconds: Math.min(maxLag, MOST_LAG) }),
    ...(silentAfter !== undefined && { silentAfterSeconds: silentAfter }),
    loggedMarks,
  }
}
