import type { Answer } from './model-server.ts'

/*
 * The simplest correct tracker of one connection: it looks at the clock at every mark. The real one must send the same ids at the same
 * times. Times are milliseconds.
 */

/** The outcome of a mark. */
export type Outcome = 'deduplicated' | 'pending' | 'dropped'

/** A model of `UsageTracker`. It must be told of everything that happens to the real one. */
export class ModelTracker {
  readonly counts = { deduplicated: 0, stored: 0, dropped: 0, failedAttempts: 0 }
  readonly #maxPending: number
  readonly #maxBatch: number
  readonly #stored = new Set<string>()
  #server: number | undefined
  #periodEnd: number | undefined
  #openUntil = Number.NEGATIVE_INFINITY
  readonly #waiting = new Set<string>()
  /** The ids of the statement under way, or of the failed one that is to be tried again. */
  #batch = new Set<string>()
  #sentAt: number | undefined
  /** Ids of the statement under way that were marked since it was sent. */
  #again = new Set<string>()

  constructor({ maxPending, maxBatch }: { maxPending: number; maxBatch: number }) {
    this.#maxPending = maxPending
    this.#maxBatch = maxBatch
  }

  /** Distinct ids that are not known to be stored. */
  get pendingIds(): number {
    return this.#waiting.size + this.#batch.size
  }

  /** Marks that are not known to be stored. */
  get pendingMarks(): number {
    return this.#waiting.size + this.#batch.size + this.#again.size
  }

  mark(id: string, now: number): Outcome {
    this.#lookAtClock(now)
    const outcome = this.#mark(id)
    if (outcome !== 'pending') this.counts[outcome]++
    return outcome
  }

  /** A statement is sent; returns the ids that it must carry. */
  send(now: number): string[] {
    if (this.#batch.size === 0) {
      this.#batch = new Set([...this.#waiting].slice(0, this.#maxBatch))
      for (const id of this.#batch) this.#waiting.delete(id)
    }
    this.#sentAt = now
    return [...this.#batch]
  }

  succeed(answer: Answer, now: number): void {
    this.#lookAtClock(now)
    if (answer.server !== this.#server) this.forget()
    const openUntil = this.#sentAt! + answer.remaining_ms
    if (answer.period_end !== this.#periodEnd) this.forget()
    this.#server = answer.server
    this.#periodEnd = answer.period_end
    this.#openUntil = Math.max(openUntil, this.#openUntil)
    if (now < this.#openUntil) {
      for (const id of this.#batch) this.#stored.add(id)
      this.counts.deduplicated += this.#again.size
    } else {
      this.#stored.clear()
      for (const id of this.#again) this.#waiting.add(id)
    }
    this.#again.clear()
    this.counts.stored += this.#batch.size
    this.#batch = new Set()
    this.#sentAt = undefined
  }

  fail(): void {
    this.forget()
    this.counts.failedAttempts++
    this.counts.deduplicated += this.#again.size
    this.#again.clear()
    this.#sentAt = undefined
  }

  /** A connection broke. */
  forget(): void {
    this.#stored.clear()
    this.#openUntil = Number.NEGATIVE_INFINITY
  }

  #mark(id: string): Outcome {
    if (this.#stored.has(id) || this.#waiting.has(id)) return 'deduplicated'
    if (this.#batch.has(id)) {
      if (this.#sentAt === undefined || this.#again.has(id)) return 'deduplicated'
      this.#again.add(id)
      return 'pending'
    }
    if (this.pendingIds >= this.#maxPending) return 'dropped'
    this.#waiting.add(id)
    return 'pending'
  }

  #lookAtClock(now: number): void {
    if (now >= this.#openUntil) this.#stored.clear()
  }
}
