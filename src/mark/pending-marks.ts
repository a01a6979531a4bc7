import type { MarkCounts } from './mark-counts.ts'
import { PendingBatch } from './pending-batch.ts'

/** The most ids that one statement carries. */
const MAX_BATCH = 5_000

interface Drain {
  /** The wait ends when the batch of this number and all before it are stored. */
  last: number
  /** The last batch that was taken before the wait began. */
  readonly takenBefore: number
  resolve(): void
  reject(error: Error): void
}

/**
 * The marks that are not stored yet: the ids that wait, and the batches that were taken of them. No id is in two of
 * these places, so no two statements under way carry the same id.
 */
export class PendingMarks {
  /** The most distinct ids, the batches included. */
  readonly maxPending: number
  readonly #counts: MarkCounts
  /** The ids that wait, in the order in which they came. */
  #waiting = new Set<string>()
  /** The batches that are under way, and those that failed and are to be sent again. The oldest is first. */
  #batches: PendingBatch[] = []
  #taken = 0
  #drains: Drain[] = []

  /** @param counts Where the marks are counted that are stored, or needed no statement of their own. */
  constructor(maxPending: number, counts: MarkCounts) {
    this.maxPending = maxPending
    this.#counts = counts
  }

  /** Marks that are not stored. An id of a batch that was marked again counts twice. */
  get marks(): number {
    return this.#batches.reduce((sum, { again }) => sum + again.size, this.ids)
  }

  /** Distinct ids that are not stored. */
  get ids(): number {
    let ids = this.#waiting.size
    for (const batch of this.#batches) ids += batch.ids.size
    return ids
  }

  /** Whether a whole batch waits. */
  get isFull(): boolean {
    return this.#waiting.size >= MAX_BATCH
  }

  /** Returns true if a statement that is not sent yet carries the id. A mark made now needs nothing more then. */
  answer(id: string): boolean {
    const answered = this.#waiting.has(id) || this.#batches.some(batch => batch.answers(id))
    if (answered) this.#counts.deduplicated++
    return answered
  }

  /** Adds an id. Returns false, and adds nothing, if `maxPending` other ids are here already. */
  add(id: string): boolean {
    const batch = this.#batches.find(({ ids }) => ids.has(id))
    if (!batch && this.ids >= this.maxPending) return false
    ;(batch?.again ?? this.#waiting).add(id)
    return true
  }

  /**
   * The batch to send next: one that failed, or else a new one of the ids that have waited for longest. Undefined if
   * there is none.
   *
   * @param full Whether a new one must have as many ids as a statement carries.
   */
  next(full: boolean): PendingBatch | undefined {
    const failed = this.#batches.find(({ isUnderWay }) => !isUnderWay)
    if (failed) return failed
    if (this.#waiting.size < (full ? MAX_BATCH : 1)) return undefined
    const batch = new PendingBatch(this.#take(), ++this.#taken)
    this.#batches.push(batch)
    return batch
  }

  #take(): ReadonlySet<string> {
    if (this.#waiting.size <= MAX_BATCH) {
      const all = this.#waiting
      this.#waiting = new Set()
      return all
    }
    const ids = new Set<string>()
    for (const id of this.#waiting) {
      ids.add(id)
      this.#waiting.delete(id)
      if (ids.size === MAX_BATCH) break
    }
    return ids
  }

  /** Records that a batch is sent now. Returns how often it was. */
  send(batch: PendingBatch): number {
    batch.isUnderWay = true
    return ++batch.attempts
  }

  /** Records that the statement of a batch has failed. It is sent again for the repeats as well. */
  fail(batch: PendingBatch): void {
    batch.isUnderWay = false
    this.#counts.deduplicated += batch.again.size
    batch.again.clear()
  }

  /**
   * Records that a batch is stored.
   *
   * @param coversRepeats Whether its ids need no other statement for the marks that were made since it was sent.
   * @param left Those of its ids that are not stored. They wait again.
   */
  settle(batch: PendingBatch, coversRepeats: boolean, left: readonly string[] = []): void {
    this.#batches = this.#batches.filter(other => other !== batch)
    this.#counts.stored += batch.ids.size - left.length
    for (const id of left) {
      if (batch.again.has(id)) this.#counts.deduplicated++
      else batch.again.add(id)
    }
    if (coversRepeats) this.#counts.deduplicated += batch.again.size
    else if (batch.again.size > 0) this.#waitAgain(batch)
    if (this.#drains.length > 0) this.#settleDrains()
  }

  #waitAgain({ again, number }: PendingBatch): void {
    for (const id of again) this.#waiting.add(id)
    const last = this.#lastBatch()
    for (const drain of this.#drains) if (number <= drain.takenBefore) drain.last = last
  }

  /** The number of the batch that will carry the last of the ids that wait. */
  #lastBatch(): number {
    return this.#taken + Math.ceil(this.#waiting.size / MAX_BATCH)
  }

  /** Resolves when all that is pending now is stored. */
  drain(): Promise<void> {
    const [last, takenBefore] = [this.#lastBatch(), this.#taken]
    return new Promise((resolve, reject) => this.#drains.push({ last, takenBefore, resolve, reject }))
  }

  /** Fails all drains, because nothing more is sent. */
  rejectDrains(error: Error): void {
    for (const drain of this.#drains.splice(0)) drain.reject(error)
  }

  #settleDrains(): void {
    const next = this.#batches[0]?.number ?? this.#taken + 1
    for (const drain of this.#drains) if (drain.last < next) drain.resolve()
    this.#drains = this.#drains.filter(({ last }) => last >= next)
  }
}
