import type { FailureKind, Recovery } from './events.ts'

/** The failures since the last flush that committed. */
export class FailureStreak {
  #kinds = new Map<FailureKind, Recovery>()

  /** Counts a failure. Returns how often its kind was counted, and since when. */
  count(kind: FailureKind): Recovery {
    const { consecutiveErrors, since } = this.#kinds.get(kind) ?? { consecutiveErrors: 0, since: new Date() }
    const counted = { consecutiveErrors: consecutiveErrors + 1, since }
    this.#kinds.set(kind, counted)
    return counted
  }

  /** Ends the row of failures. Returns what it was, or null if there was none. */
  end(): Recovery | null {
    const failures = [...this.#kinds.values()]
    this.#kinds.clear()
    if (failures.length === 0) return null
    return {
      consecutiveErrors: failures.reduce((sum, { consecutiveErrors }) => sum + consecutiveErrors, 0),
      since: failures.map(({ since }) => since).reduce((first, other) => (other < first ? other : first)),
    }
  }
}
