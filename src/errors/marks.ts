import { WorkspaceUsageError } from './base.ts'

/** `UsageTracker.close` gave up. Some marks are not known to be stored, because no answer came. */
export class MarksNotStoredError extends WorkspaceUsageError {
  /** Distinct ids that are not known to be stored. */
  readonly left: number
  readonly timeoutMs: number

  constructor(left: number, timeoutMs: number) {
    super(
      `${left} ${left === 1 ? 'mark is' : 'marks are'} not stored: the tracker was closed and gave up after ` +
        `${timeoutMs} ms. Pass close a longer timeoutMs, or look at the logged error of the last attempt.`,
    )
    this.left = left
    this.timeoutMs = timeoutMs
  }
}
