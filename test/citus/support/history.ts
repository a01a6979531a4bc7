/** The clocks of this machine and of the nodes may differ by this much, in ms. */
const CLOCKS_MS = 20

/** What is known of the marks of one workspace. Times are those of this machine, in ms. */
interface Marks {
  /** The last mark that is surely stored: when its statement, or the call of the tracker, began. */
  acknowledged: number
  /** When the last statement ended that may have stored one. */
  possible: number
}

/** What a run found to be wrong: one line each. */
export type Violations = string[]

/** Writes down who marked what, and judges what became of it. */
export class MarkHistory {
  readonly #marks = new Map<string, Marks>()
  readonly #seen = new Map<string, number>()
  readonly movedBack: Violations = []
  acknowledged = 0

  /** Runs a statement that marks the ids, or waits until a tracker has stored them. @returns whether it is sure */
  async of(ids: readonly string[], began: number, store: () => Promise<unknown>): Promise<boolean> {
    // Until it has ended, it may store a mark at any time.
    for (const id of ids) this.#at(id).possible = Number.POSITIVE_INFINITY
    let isSure = true
    try {
      await store()
    } catch {
      isSure = false
    }
    for (const id of ids) {
      const marks = this.#at(id)
      if (isSure) marks.acknowledged = Math.max(marks.acknowledged, began)
    }
    if (isSure) this.acknowledged += ids.length
    return isSure
  }

  /** Nobody marks any more, and nothing is under way. */
  ended(): void {
    const now = Date.now()
    for (const marks of this.#marks.values()) marks.possible = now
  }

  /** Looks at what was flushed so far. It may never be earlier than it was. */
  look(rows: readonly { id: string; ms: string | null }[]): void {
    for (const { id, ms } of rows) {
      const before = this.#seen.get(id) ?? 0
      if (Number(ms ?? 0) < before) this.movedBack.push(`${id} moved back from ${before} to ${ms}`)
      this.#seen.set(id, Math.max(before, Number(ms ?? 0)))
    }
  }

  /** Compares what is flushed in the end with the marks. The rows are those of workspaces that were never deleted. */
  judge(
    rows: readonly { id: string; ms: string | null; bySource: string | null }[],
    periodMs: number,
  ): Violations {
    this.look(rows)
    const found = rows.flatMap(({ id, ms, bySource }) => {
      const marks = this.#marks.get(id)
      if (!marks) return ms === null ? [] : [`${id} was never marked, and is used at ${ms}`]
      const used = Number(ms ?? 0)
      return [
        ...(used + CLOCKS_MS < marks.acknowledged
          ? [`${id} lost its mark of ${marks.acknowledged}: ${ms}`]
          : []),
        ...(used - CLOCKS_MS > marks.possible + periodMs
          ? [`${id} is used beyond ${marks.possible}: ${ms}`]
          : []),
        ...(bySource === ms ? [] : [`${id} is used at ${ms}, and by source at ${bySource}`]),
      ]
    })
    return [...found, ...this.movedBack]
  }

  #at(id: string): Marks {
    let marks = this.#marks.get(id)
    if (!marks) {
      marks = { acknowledged: 0, possible: 0 }
      this.#marks.set(id, marks)
    }
    return marks
  }
}
