import { WorkspaceUsageError } from '../../src/errors.ts'

/** What an embedded server was doing when it failed. */
export type EmbeddedPostgresStep = 'find' | 'account' | 'initdb' | 'start' | 'stop'

/** The embedded PostgreSQL could not be found, started or stopped. A server that did not start left nothing behind. */
export class EmbeddedPostgresError extends WorkspaceUsageError {
  readonly step: EmbeddedPostgresStep
  /** What went wrong, without the log. */
  readonly reason: string
  /** The last 20 lines that the program at fault printed. Empty if it printed none. */
  readonly logTail: string

  constructor(step: EmbeddedPostgresStep, reason: string, output: string) {
    const logTail = output.trimEnd().split('\n').slice(-20).join('\n')
    const log = logTail === '' ? '' : ` Its last words:\n${logTail.replace(/^/gm, '  | ')}`
    super(`embedded PostgreSQL, ${step}: ${reason}${log}`)
    this.step = step
    this.reason = reason
    this.logTail = logTail
  }
}
