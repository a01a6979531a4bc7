import type { Logger } from '../../src/logger.ts'

/** One thing that was logged. */
export interface LogLine {
  level: 'debug' | 'info' | 'warn' | 'error'
  message: string
  fields: Record<string, unknown>
}

/** A logger that keeps its lines. */
export function collectLog(): { logger: Logger; lines: LogLine[]; find(message: string): LogLine[] } {
  const lines: LogLine[] = []
  const at = (level: LogLine['level']) => (fields: object, message: string) => {
    lines.push({ level, message, fields: { ...fields } })
  }
  return {
    lines,
    logger: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') },
    find: message => lines.filter(line => line.message.includes(message)),
  }
}
