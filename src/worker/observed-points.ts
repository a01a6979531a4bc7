import type { Attributes, BatchObservableResult, Observable } from '@opentelemetry/api'

/** The points of one collection. */
export interface CollectedPoints {
  /**
   * @param gone What the point becomes in later collections that do not have it. Default: its last value.
   */
  observe(metric: Observable, value: number, attributes: Attributes, gone?: number): void
  /** Tells what is gone. */
  finish(): void
}

interface Known {
  metric: Observable
  attributes: Attributes
  gone: number
}

/**
 * The points that were observed at least once. The SDK for JavaScript goes on to report the last value of a point that
 * is not observed any more. So a problem that is solved, or a lag that nobody knows, must be observed as such.
 */
export class Points {
  readonly #known = new Map<Observable, Map<string, Known>>()

  /** Begins a collection. */
  of(result: BatchObservableResult): CollectedPoints {
    const missing = new Set([...this.#known.values()].flatMap(points => [...points.values()]))
    return {
      observe: (metric, value, attributes, gone) => {
        result.observe(metric, value, attributes)
        if (gone === undefined) return
        const points = this.#known.get(metric) ?? new Map<string, Known>()
        this.#known.set(metric, points)
        const key = JSON.stringify(attributes)
        const known = points.get(key) ?? { metric, attributes, gone }
        points.set(key, known)
        missing.delete(known)
      },
      finish: () => {
        for (const { metric, attributes, gone } of missing) result.observe(metric, gone, attributes)
      },
    }
  }
}
