import { Option } from 'commander'
import { destination, type Level, type Logger, pino } from 'pino'

/** `--log-level`, or `WORKSPACE_USAGE_LOG_LEVEL`. */
export function logLevelOption(level: Level): Option {
  return new Option('--log-level <level>', 'least level to log')
    .choices(['debug', 'info', 'warn', 'error'])
    .env('WORKSPACE_USAGE_LOG_LEVEL')
    .default(level)
}

/** Names under which a library or a caller might log a secret. */
const SECRETS = ['password', 'connectionString', 'databaseUrl']

/**
 * A pino logger, JSON a line, written at once: a process that is ended keeps its last line.
 *
 * @param fd 1 where the log is the output, 2 where it goes beside one.
 */
export function createLogger(level: string, fd: 1 | 2): Logger {
  const paths = SECRETS.flatMap(name => [name, `*.${name}`, `*.*.${name}`])
  return pino({ level, redact: { paths, censor: '(not shown)' } }, destination({ fd, sync: true }))
}
