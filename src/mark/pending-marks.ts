import type { MarkCounts } from './mark-counts.ts'

/** The most ids that one statement carries. */
const MAX_BATCH = 5_000

const NOTHING: ReadonlySet<string> = new Set()

interface Drain {
  /** The wait ends when the batch of this number is stored. The first batch of a tracker has number 1. */
  last: number
  resolve(): void
  reject(error: Error): void
}

/**
 * The marks that are not stored yet: the ids that wait, and the batch of the statement under way.
 *
 * An id of the batch may also be among those that wait. It was marked again while the statement was under way, and the
 * period may have ended in between. The answer to the statement tells whether this mark needs another statement.
 */
export class PendingMarks {
  /** The most distinct ids, the batch included. */
  readonly maxPending: number
  readonly #counts: MarkCounts
  /** The ids that wait, in the order in which they came. */
  #waiting = new Set<string>()
  /** The ids of the statement under way, or of the failed one that is sent again. */
  #batch: ReadonlySet<string> = NOTHING
  /** Whether the batch was sent and is not answered. A mark made now may be later than the time of its statement. */
  #underWay = false
  /** The number of ids that wait and are in the batch as well. */
  #overlap = 0

  #batchesStored = 0
  #drains: Drain[] = []

  /** @param counts Where the marks are counted that are stored, or needed no statement of their own. */
  constructor(maxPending: number, counts: MarkCounts) {
    this.maxPending = maxPending
    this.#counts = counts
  }

  /** Marks that are not stored. An id that waits and is in the batch as well counts twice. */
  get marks(): number {
    return this.#waiting.size + this.#batch.size
  }

  /** Distinct ids that are not stored. */
  get ids(): number {
    return this.#waiting.size + this.#batch.size - this.#overlap
  }

  /** Whether any id waits for a batch. */
  get areWaiting(): boolean {
    return this.#waiting.size > 0
  }

  /** Returns true if a statement that is not sent yet carries the id. A mark made now needs nothing more then. */
  answer(id: string): boolean {
    const answered = this.#waiting.has(id) || (!this.#underWay && this.#batch.has(id))
    if (answered) this.#counts.deduplicated++
    return answered
  }

  /** Adds an id. Returns false, and adds nothing, if `maxPending` other ids are here already. */
  add(id: string): boolean {
    const again = this.#batch.has(id)
    if (!again && this.ids >= this.maxPending) return false
    if (again) this.#overlap++
    this.#waiting.add(id)
    return true
  }

  /** Makes a batch of the ids that have waited for longest. The last batch must be settled. */
  takeBatch(): void {
    if (this.#waiting.size <= MAX_BATCH) {
      this.#batch = this.#waiting
      this.#waiting = new Set()
      return
    }
    const batch = new Set<string>()
    for (const id of this.#waiting) {
      batch.add(id)
      this.#waiting.delete(id)
      if (batch.size === MAX_BATCH) break
    }
    this.#batch = batch
  }

  /** Records that the batch is sent now. Returns its ids. */
  sendBatch(): ReadonlySet<string> {
    this.#underWay = true
    return this.#batch
  }

  /** Records that the statement was answered or has failed. */
  returnBatch(): void {
    this.#underWay = false
  }

  /** Records that the batch is stored. */
  settleBatch(): void {
    this.#counts.stored += this.#batch.size
    this.#batch = NOTHING
    this.#overlap = 0
    this.#batchesStored++
    if (this.#drains.length > 0) this.#settleDrains(({ last }) => last <= this.#batchesStored)
  }

  /** Removes the waiting ids that are in the batch as well. The batch covers their marks, or is sent again for them. */
  absorbRepeats(): void {
    if (this.#overlap === 0) return
    this.#counts.deduplicated += this.#overlap
    for (const id of this.#batch) this.#waiting.delete(id)
    this.#overlap = 0
  }

  /** Resolves when all that is pending now is stored. */
  drain(): Promise<void> {
    // It may be one batch too many, because repeats may be absorbed. Then a later batch or `resolveDrains` ends the wait.
    const batches = Math.ceil(this.#waiting.size / MAX_BATCH) + (this.#batch.size > 0 ? 1 : 0)
    const last = this.#batchesStored + batches
    return new Promise((resolve, reject) => this.#drains.push({ last, resolve, reject }))
  }

  /** Ends all drains, because no mark is pending any more. */
  resolveDrains(): void {
    this.#settleDrains(() => true)
  }

  /** Fails all drains, because nothing more is sent. */
  rejectDrains(error: Error): void {
    for (const drain of this.#drains.splice(0)) drain.reject(error)
  }

  #settleDrains(isOver: (drain: Drain) => boolean): void {
    for (const drain of this.#drains) if (isOver(drain)) drain.resolve()
    this.#drains = this.#drains.filter(drain => !isOver(drain))
  }
}
