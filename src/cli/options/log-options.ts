import type { Writable } from 'node:stream'
import type { Option } from 'commander'
import { type Level, type Logger, pino } from 'pino'
import { VariableOption } from './variable-option.ts'

/** `--log-level`, or `WORKSPACE_USAGE_LOG_LEVEL`. */
export function logLevelOption(level: Level): Option {
  return new VariableOption('--log-level <level>', 'lowest level to log', 'WORKSPACE_USAGE_LOG_LEVEL')
    .choices(['debug', 'info', 'warn', 'error'])
    .default(level)
}

/** Fields in which a library or a caller might log a secret. */
const SECRETS = ['password', 'connectionString', 'databaseUrl']

/**
 * Makes a pino logger. It writes each line at once, so that no line is missing when the process ends.
 *
 * @param output Standard output if the log is the output of the command, otherwise standard error.
 */
export function createLogger(level: string, output: Writable): Logger {
  const paths = SECRETS.flatMap(name => [name, `*.${name}`, `*.*.${name}`])
  return pino({ level, redact: { paths, censor: '(not shown)' } }, output)
}
