import type { Writable } from 'node:stream'
import type { Option } from 'commander'
import { type Level, type Logger, pino } from 'pino'
import { VariableOption } from './variable-option.ts'

/** `--log-level`, or `WORKSPACE_USAGE_LOG_LEVEL`. */
export function logLevelOption(level: Level): Option {
  return new VariableOption('--log-level <level>', 'least level to log', 'WORKSPACE_USAGE_LOG_LEVEL')
    .choices(['debug', 'info', 'warn', 'error'])
    .default(level)
}

/** Names under which a library or a caller might log a secret. */
const SECRETS = ['password', 'connectionString', 'databaseUrl']

/**
 * A pino logger, JSON a line, written at once: a process that is ended keeps its last line.
 *
 * @param output Standard output where the log is what the command prints, else standard error.
 */
export function createLogger(level: string, output: Writable): Logger {
  const paths = SECRETS.flatMap(name => [name, `*.${name}`, `*.*.${name}`])
  return pino({ level, redact: { paths, censor: '(not shown)' } }, output)
}
