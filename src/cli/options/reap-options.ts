import { Option } from 'commander'
import { HEALTH_OPTIONS } from '../../activity/health.ts'
import { IDLE_OPTIONS } from '../../activity/idle-options.ts'
import { DEFAULT_REAP_LIMIT, DEFAULT_REAPS_PER_MINUTE, POLICY_RULES } from '../../reaper/reap-options.ts'
import { type DatabaseOptions, databaseOptions } from './database-option.ts'
import { durationAllowedBy } from './duration.ts'
import { type JsonOptions, jsonOption } from './json-option.ts'
import { numberAllowedBy } from './parsers.ts'
import { VariableOption } from './variable-option.ts'

/** The options of `reap`. */
export interface ReapCommandOptions extends DatabaseOptions, JsonOptions {
  for: number
  limit: number
  rate: number
  stopTimeout: number
  maxLag?: number
  silentAfter?: number
  run?: string
  yes: boolean
  again: boolean
}

/** A program takes longer than a statement. */
const DEFAULT_STOP_TIMEOUT = 60

/** Makes the options of `reap`. */
export function reapOptions(): Option[] {
  return [
    ...databaseOptions(),
    new VariableOption(
      '--for <duration>',
      'not used for at least this long: 45s, 90m, 12h, 30d, 2w',
      'WORKSPACE_USAGE_IDLE_FOR',
      { needed: true },
    ).argParser(durationAllowedBy(IDLE_OPTIONS.idleForSeconds)),
    number('--limit <n>', 'stop this many at most', 'REAP_LIMIT', POLICY_RULES.limit).default(
      DEFAULT_REAP_LIMIT,
    ),
    number(
      '--rate <n>',
      'begin this many stops in a minute at most',
      'REAP_RATE',
      POLICY_RULES.maxPerMinute,
    ).default(DEFAULT_REAPS_PER_MINUTE),
    number(
      '--stop-timeout <seconds>',
      'a stop that takes longer has failed',
      'STOP_TIMEOUT',
      POLICY_RULES.stopTimeoutSeconds,
    ).default(DEFAULT_STOP_TIMEOUT),
    number(
      '--max-lag <seconds>',
      'stop nothing above this lag; default: 180, or more if flushes are rarer',
      'MAX_LAG',
      HEALTH_OPTIONS.maxLagSeconds,
    ),
    number(
      '--silent-after <seconds>',
      'stop nothing while a regular source was not seen for this long; default: 3600',
      'SILENT_AFTER',
      HEALTH_OPTIONS.silentAfterSeconds,
    ),
    // These options have no variables, because an environment must not make a command destructive.
    new Option('--run <program>', 'run this for each workspace; default: only list what would be stopped'),
    new Option('--yes', 'with --run: do not ask').default(false),
    new Option('--again', 'also those that were stopped before and not used since').default(false),
    jsonOption(),
  ]
}

function number(
  flags: string,
  description: string,
  variable: string,
  rule: Parameters<typeof numberAllowedBy>[0],
) {
  return new VariableOption(flags, description, `WORKSPACE_USAGE_${variable}`).argParser(
    numberAllowedBy(rule),
  )
}
