/**
 * What became of a workspace that was listed as idle.
 *
 * - `stopped`: `stop` returned, and its transaction has committed.
 * - `failed`: `stop` threw or took too long, or PostgreSQL refused its COMMIT. It is rolled back.
 * - `would-stop`: in a dry run.
 * - `in-use`: it was used since it was listed.
 * - `held`: another transaction holds its row: of the application, of a flush or of another reaper.
 * - `stopped-before`: another reaper has stopped it since it was listed.
 * - `gone`: it was deleted since it was listed.
 */
export type OutcomeKind = 'stopped' | 'failed' | 'would-stop' | 'in-use' | 'held' | 'stopped-before' | 'gone'

/** One workspace that was listed as idle, and what became of it. */
export interface ReapOutcome {
  workspaceId: string
  outcome: OutcomeKind
  /** The last use. Null if it was never used, or is gone. */
  lastUsedAt: Date | null
  /** Seconds since the last use, or since the creation of one that was never used. Null if that is not known. */
  idleSeconds: number | null
  /** Why it has failed. Otherwise null. */
  error: unknown
}

/** Why nothing is stopped: somebody may use a workspace that looks idle. */
export interface ReapRefusal {
  /**
   * - `incomplete`: marks were lost within the time for which a workspace must be idle.
   * - `lag`: marks were not flushed for too long.
   * - `flushes-fail`: flushes fail again and again.
   * - `silent-source`: a regular source has not marked for too long.
   * - `unknown`: nearly all marks are of workspaces that do not exist, so markers may pass other ids.
   */
  reason: 'incomplete' | 'lag' | 'flushes-fail' | 'silent-source' | 'unknown'
  message: string
  remedy: string
  /** Since when. Null if that is not known. */
  since: Date | null
}

/** What {@link reapIdle} did. */
export interface ReapResult {
  dryRun: boolean
  /** Workspaces that were listed as idle, and looked at. In a dry run, those that would be stopped. */
  idle: number
  stopped: number
  failed: number
  /** Used since they were listed. */
  inUse: number
  /** Left alone because another transaction held their row. The next run tries them. */
  held: number
  /** Stopped by another reaper since they were listed. */
  stoppedBefore: number
  /** Deleted since they were listed. */
  gone: number
  /** Why nothing was stopped, or nothing more. Empty if there was no reason. */
  refused: ReapRefusal[]
  /**
   * Why the run ended: all idle workspaces were looked at, the limit is reached, the signal was aborted, or it was
   * refused to stop more.
   */
  ended: 'all' | 'limit' | 'aborted' | 'refused'
  /** The first 20 failures. */
  failures: { workspaceId: string; message: string }[]
}
