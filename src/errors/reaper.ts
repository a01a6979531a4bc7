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

/** The program of `workspace-usage reap --run` has failed for a workspace. */
export class StopProgramError extends WorkspaceUsageError {
  readonly program: string
  readonly workspaceId: string
  /** Null if a signal ended it. */
  readonly exitCode: number | null
  /** Null if it ended by itself. */
  readonly signal: string | null

  constructor(program: string, workspaceId: string, exitCode: number | null, signal: string | null) {
    const how = signal === null ? `the exit code ${exitCode}` : signal
    super(
      `${quote(program)} ended with ${how} for workspace ${quote(workspaceId)}; expected: the exit code 0. ` +
        'The workspace is not noted as stopped. Its output, if any, is on standard error.',
    )
    this.program = program
    this.workspaceId = workspaceId
    this.exitCode = exitCode
    this.signal = signal
  }
}
