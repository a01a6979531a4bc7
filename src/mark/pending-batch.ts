/**
 * The marks that one statement carries. It is sent again until it is stored.
 *
 * An id may be marked again while the statement is under way, and the period may have ended in between. The answer to
 * the statement tells whether such a mark needs another statement.
 */
export class PendingBatch {
  readonly ids: ReadonlySet<string>
  /** Its place in the order in which the tracker took its batches. The first one has number 1. */
  readonly number: number
  /** The ids that were marked again since the statement was sent. Empty if it is not under way. */
  readonly again = new Set<string>()
  /** Whether it was sent and is not answered. A mark made now may be later than the time of its statement. */
  isUnderWay = false
  /** How often it was sent. */
  attempts = 0

  constructor(ids: ReadonlySet<string>, number: number) {
    this.ids = ids
    this.number = number
  }

  /** Returns true if a statement that is not sent yet carries the id, because of this batch. */
  answers(id: string): boolean {
    return this.isUnderWay ? this.again.has(id) : this.ids.has(id)
  }
}
