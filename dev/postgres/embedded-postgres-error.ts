import { WorkspaceUsageError } from '../../src/errors.ts'

/** What an embedded server was doing when it failed. */
export type EmbeddedPostgresStep = 'find' | 'account' | 'initdb' | 'start' | 'stop' | 'supervise'

/**
 * The fields of an `EmbeddedPostgresError`, as they travel from the supervisor to the program that waits for
 * it.
 */
export interface EmbeddedPostgresFailure {
  step: EmbeddedPostgresStep
  reason: string
  logTail: string
}

/**
 * The embedded PostgreSQL could not be started, stopped or found. No server and no directory of it is left
 * behind.
 */
export class EmbeddedPostgresError extends WorkspaceUsageError {
  readonly step: EmbeddedPostgresStep
  /** What went wrong, without the log. */
  readonly reason: string
  /** The last lines that the program at fault printed; empty if it printed none. */
  readonly logTail: string

  constructor({ step, reason, logTail }: EmbeddedPostgresFailure) {
    const log = logTail === '' ? '' : ` Its last words:\n${logTail.replace(/^/gm, '  | ')}`
    super(`embedded PostgreSQL, ${step}: ${reason}${log}`)
    this.step = step
    this.reason = reason
    this.logTail = logTail
  }
}

/** The last `lines` non-empty lines of a log. */
export function tail(log: string, lines = 20): string {
  return log.trimEnd().split(/\r?\n/).slice(-lines).join('\n')
}
