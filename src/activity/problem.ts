/** How bad a problem is. */
export type Severity =
  /** Use is not recorded, or answers are wrong or late, now or very soon. */
  | 'critical'
  /** Somebody should look at it. Use is recorded meanwhile. */
  | 'warning'

/** The kinds of problems that the health verdict knows. `docs/runbook.md` has a paragraph on each. */
export type ProblemCode =
  /** The database gave no verdict: it is out of reach, not migrated, or refuses to be asked. */
  | 'unavailable'
  /** The lag is above its limit. */
  | 'lag'
  /** No worker was seen lately, and nobody flushed by hand. */
  | 'no-worker'
  /** Flushes have failed since the last one that committed. */
  | 'flushes-fail'
  /** Jobs that failed for good are in the dead-letter queue, and no flush has committed since. */
  | 'failed-jobs'
  /** The database refuses the update of workspaces. */
  | 'refused'
  /** Marks are held for long: another transaction keeps their workspaces locked. */
  | 'held'
  /** Nearly all marks are of workspaces that do not exist. */
  | 'unknown'
  /** Pending marks were lost lately, because a crash or a promotion emptied `pending_usage`. */
  | 'reset'
  /** The queue of flush jobs is missing, or not as `migrate` made it. */
  | 'queue'
  /** The schedule of the flushes is missing, or not as a worker set it. */
  | 'schedule'
  /** `pending_usage` is not UNLOGGED. */
  | 'logged-marks'
  /** An old transaction keeps VACUUM from removing what flushes have deleted. */
  | 'old-transaction'
  /** `pending_usage` is much larger than its rows. */
  | 'bloat'
  /** A source that was seen every hour for a day is not seen any more. */
  | 'silent-source'
  /** Marks are of periods that end too far ahead: a clock was wrong, or somebody stored them by hand. */
  | 'future-marks'

/** Something that is wrong. */
export interface Problem {
  code: ProblemCode
  severity: Severity
  /** What is wrong, with its figures: one sentence. */
  message: string
  /** What to do about it: one or two sentences. */
  remedy: string
  /** Since when, by the database's clock. Null if that is not known. */
  since: Date | null
  /** What it is about, such as the name of a source. Null if the code says all. */
  object: string | null
}
