/** The most ids that one statement carries. */
const MAX_BATCH = 5_000

const NOTHING: ReadonlySet<string> = new Set()

interface Drain {
  /** The number of the batch that ends the wait, counted from the first batch of the tracker. */
  last: number
  resolve(): void
  reject(error: Error): void
}

/**
 * The marks that the database does not have yet: the ids that wait, and the batch of the statement under way.
 *
 * An id of the batch may wait once more. It was marked while the statement was under way, and the period may have
 * ended in between. The answer to the statement decides whether that mark needs a statement of its own.
 */
export class PendingMarks {
  /** Marks that a statement has stored. */
  stored = 0
  /** Marks that needed no statement of their own, because that of an earlier mark carries their id as well. */
  repeats = 0

  /** Distinct ids at most, the batch included. */
  readonly maxPending: number
  /** First come, first sent. */
  #waiting = new Set<string>()
  /** The ids of the statement under way, or of the failed one that is sent again. */
  #batch: ReadonlySet<string> = NOTHING
  /** Whether the batch has left. The time of its statement may then be earlier than a mark made now. */
  #underWay = false
  /** The number of ids that wait and are in the batch as well. */
  #overlap = 0

  #batchesStored = 0
  #drains: Drain[] = []

  constructor(maxPending: number) {
    this.maxPending = maxPending
  }

  /** Marks that are not stored. An id of the batch that waits once more counts twice. */
  get marks(): number {
    return this.#waiting.size + this.#batch.size
  }

  /** Distinct ids that are not stored. */
  get ids(): number {
    return this.#waiting.size + this.#batch.size - this.#overlap
  }

  /** Whether ids wait that are in no batch yet. */
  get areWaiting(): boolean {
    return this.#waiting.size > 0
  }

  /** Answers a mark that is made now, if a statement that has not left yet carries its id: returns true then. */
  answer(id: string): boolean {
    const answered = this.#waiting.has(id) || (!this.#underWay && this.#batch.has(id))
    if (answered) this.repeats++
    return answered
  }

  /** Adds an id. Returns false, and adds nothing, if `maxPending` others are there already. */
  add(id: string): boolean {
    const again = this.#batch.has(id)
    if (!again && this.ids >= this.maxPending) return false
    if (again) this.#overlap++
    this.#waiting.add(id)
    return true
  }

  /** Makes a batch of the ids that have waited longest. There must be no other batch. */
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

  /** The batch leaves. Returns its ids. */
  sendBatch(): ReadonlySet<string> {
    this.#underWay = true
    return this.#batch
  }

  /** The statement was answered, or it failed: the batch is under way no longer. */
  returnBatch(): void {
    this.#underWay = false
  }

  /** The batch is stored. */
  settleBatch(): void {
    this.stored += this.#batch.size
    this.#batch = NOTHING
    this.#overlap = 0
    this.#batchesStored++
    if (this.#drains.length > 0) this.#settleDrains(({ last }) => last <= this.#batchesStored)
  }

  /** Takes back the waiting ids that are in the batch as well: the batch covers these marks, or it is sent again. */
  absorbRepeats(): void {
    if (this.#overlap === 0) return
    this.repeats += this.#overlap
    for (const id of this.#batch) this.#waiting.delete(id)
    this.#overlap = 0
  }

  /** Resolves when all that is pending now is stored. */
  drain(): Promise<void> {
    // One less, if the ids that wait turn out to need no statement of their own.
    const batches = Math.ceil(this.#waiting.size / MAX_BATCH) + (this.#batch.size > 0 ? 1 : 0)
    const last = this.#batchesStored + batches
    return new Promise((resolve, reject) => this.#drains.push({ last, resolve, reject }))
  }

  /** Nothing is pending any more. */
  resolveDrains(): void {
    this.#settleDrains(() => true)
  }

  /** Nothing more is sent. */
  rejectDrains(error: Error): void {
    for (const drain of this.#drains.splice(0)) drain.reject(error)
  }

  #settleDrains(isOver: (drain: Drain) => boolean): void {
    for (const drain of this.#drains) if (isOver(drain)) drain.resolve()
    this.#drains = this.#drains.filter(drain => !isOver(drain))
  }
}
