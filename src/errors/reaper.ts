import { quote, WorkspaceUsageError } from './base.ts'

/** A `stop` of {@link reapIdle} did not end in time. Its transaction is rolled back. */
export class StopTimeoutError extends WorkspaceUsageError {
  readonly workspaceId: string
  readonly timeoutSeconds: number

  constructor(workspaceId: string, timeoutSeconds: number) {
    super(
      `the stop of workspace ${quote(workspaceId)} did not end within ${timeoutSeconds} s. Its transaction is rolled back. ` +
        'Let stop only note that the workspace is to be stopped, or raise stopTimeoutSeconds (--stop-timeout).',
    )
    this.workspaceId = workspaceId
    this.timeoutSeconds = timeoutSeconds
  }
}

/** A `stop` used the client of its transaction after that had ended. */
export class StopEndedError extends WorkspaceUsageError {
  readonly workspaceId: string

  constructor(workspaceId: string) {
    super(
      `the transaction in which workspace ${quote(workspaceId)} was stopped has ended. ` +
        'Let stop wait for all its statements before it returns.',
    )
    this.workspaceId = workspaceId
  }
}
