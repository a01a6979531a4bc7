/** What became of the marks of one tracker. The parts of the tracker count here, its `stats` and the metrics read it. */
export class MarkCounts {
  /** Marks that needed no statement, because the statement of an earlier mark covers them. */
  deduplicated = 0
  /** Marks that a statement has stored. */
  stored = 0
  /** Marks lost because too many ids were waiting. */
  dropped = 0
  /** Statements that were sent again after a failure. */
  retries = 0
}
