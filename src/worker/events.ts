import type { FlushResult } from '../flush/flush.ts'
import type { UsageReset } from '../flush/reset.ts'

/** What went wrong. */
export type FailureKind =
  /** A flush failed, or its commit. Told each time. */
  | 'flush'
  /** pg-boss could not take a job, or note what became of one. Told once for each SQLSTATE until a flush commits. */
  | 'jobs'
  /** The database does not answer, or gives no connection. Told once until it answers again. */
  | 'unreachable'

/** The end of a row of failures. */
export interface Recovery {
  /** How many failures were told. */
  consecutiveErrors: number
  /** When the first of them was, by the clock of this process. */
  since: Date
}

/** A flush that has committed, see {@link FlushHooks.onFlush}. */
export interface FlushEvent {
  result: FlushResult
  /** How long it took without its commit, in milliseconds. */
  durationMs: number
  /** The id of its pg-boss job. */
  jobId: string
  /** The queue of that job. It tells schemas apart. */
  queue: string
  /** The failures that this flush ends, of all kinds. Null if there was none since the last flush of this worker. */
  recovered: Recovery | null
}

/** Something that failed, see {@link FlushHooks.onFailure}. The marks are still pending. */
export interface FailureEvent {
  kind: FailureKind
  /** The reason, in most cases an `Error`, with the remedy if there is one: the same as in the log. */
  error: unknown
  /** How often this kind was told since the last flush of this worker that committed. This one counts. */
  consecutiveErrors: number
  /** When that was for the first time, by the clock of this process. */
  since: Date
  /** The id of the pg-boss job. Null if no job was taken. */
  jobId: string | null
  /** The queue of the flush jobs. */
  queue: string
}

/** A flush that found that marks are missing, see {@link FlushHooks.onReset}. */
export interface ResetEvent extends UsageReset {
  /** When that flush had committed, by the clock of this process. */
  noticedAt: Date
  /** The id of its pg-boss job. */
  jobId: string
  /** The queue of that job. */
  queue: string
}

/**
 * Functions that a worker calls, so that a host can alert without reading the log. The log stays as it is.
 *
 * They are called in the order of what happened, after the end of the transaction. Nobody waits for them: the next flush
 * starts even if a promise of theirs is still pending. If one throws or rejects, that is logged at level error, and
 * nothing else changes.
 */
export interface FlushHooks {
  /** Called after each flush that has committed, also after one that found nothing to do. */
  onFlush?: ((event: FlushEvent) => unknown) | undefined
  /** Called for each failure. {@link FlushEvent.recovered} tells its end. */
  onFailure?: ((event: FailureEvent) => unknown) | undefined
  /**
   * Called when a flush finds that marks were lost: by a crash of the server, the promotion of a standby, or a restore.
   * What was used before {@link ResetEvent.completeSince} may look idle. It is called after `onFlush` of the same flush.
   */
  onReset?: ((event: ResetEvent) => unknown) | undefined
}
