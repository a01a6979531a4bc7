import type { Logger } from '../logger.ts'

/** The numbers that pino gives its levels. */
const LEVELS = { info: 30, warn: 40, error: 50 }

/**
 * Writes lines of JSON in pino's form to standard error. So no loss is silent if a program passes no logger, and a
 * service that only marks need not load pino. Debug lines are left out, as pino does by default.
 */
export const standardErrorLogger: Logger = {
  debug() {},
  info: (fields, message) => write(LEVELS.info, fields, message),
  warn: (fields, message) => write(LEVELS.warn, fields, message),
  error: (fields, message) => write(LEVELS.error, fields, message),
}

function write(level: number, fields: object, message: string): void {
  const { err, ...others } = fields as { err?: unknown }
  const error = err === undefined ? {} : { err: describe(err) }
  // console.error ignores a closed pipe. process.stderr.write does not, and a program that marks must not end by it.
  console.error(
    JSON.stringify({ level, time: Date.now(), name: 'workspace-usage', ...others, ...error, msg: message }),
  )
}

function describe(error: unknown): object {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) }
  const { name, message, stack } = error
  const code = 'code' in error ? String(error.code) : undefined
  return { type: name, message, code, stack }
}
