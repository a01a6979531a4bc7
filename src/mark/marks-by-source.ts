import type { MarkCounts } from './mark-counts.ts'

/** The source of the metrics for a tracker without the option `source`. Only the database knows the real one. */
const APPLICATION_NAME = 'application_name'
/** The source of the metrics for all sources above the first 1,000, because metrics are not for one source an id. */
const OTHER = 'other'
const MAX_SOURCES = 1_000

/** What became of all marks of one source in this process. It never falls, `pending` excepted. */
export interface SourceMarks {
  marked: number
  deduplicated: number
  stored: number
  dropped: number
  retries: number
  /** Distinct ids that wait or are under way. */
  pending: number
}

/** Proves the last answers of a tracker, and tells what is pending then: marks, and the distinct ids of them. */
export type ReadPending = () => { readonly marks: number; readonly ids: number }

/**
 * A tracker that counts. The tracker itself is only known weakly, so that one that nobody uses any more becomes garbage.
 * Its counts outlive it.
 */
interface Counting {
  counts: MarkCounts
  readPending: WeakRef<ReadPending>
}

/** A source, with the counts of what is over: closed trackers and single marks. */
class Source {
  readonly past = { deduplicated: 0, stored: 0, dropped: 0, retries: 0 }
  readonly counting = new Set<Counting>()

  /** Moves the counts of a tracker to the past. The marks that it leaves behind are dropped. */
  end(tracker: Counting): void {
    if (!this.counting.delete(tracker)) return
    const left = tracker.readPending.deref()?.().marks ?? 0
    this.past.deduplicated += tracker.counts.deduplicated
    this.past.stored += tracker.counts.stored
    this.past.dropped += tracker.counts.dropped + left
    this.past.retries += tracker.counts.retries
  }

  sum(): SourceMarks {
    const sum = { marked: 0, ...this.past, pending: 0 }
    for (const { counts, readPending } of this.counting) {
      const pending = readPending.deref()?.()
      sum.marked += pending?.marks ?? 0
      sum.pending += pending?.ids ?? 0
      sum.deduplicated += counts.deduplicated
      sum.stored += counts.stored
      sum.dropped += counts.dropped
      sum.retries += counts.retries
    }
    sum.marked += sum.deduplicated + sum.stored + sum.dropped
    return sum
  }
}

const sources = new Map<string, Source>()
const garbage = new FinalizationRegistry<() => void>(end => end())

/** The name by which the metrics know a source. */
export function metricSource(source = APPLICATION_NAME): string {
  if (sources.has(source)) return source
  const name = sources.size < MAX_SOURCES ? source : OTHER
  if (!sources.has(name)) sources.set(name, new Source())
  return name
}

/**
 * Counts the marks of a tracker from now on.
 *
 * @param readPending Part of the tracker: the tracker counts for as long as this function lives.
 * @returns What ends that. Marks that are pending then are dropped.
 */
export function countTracker(
  source: string | undefined,
  counts: MarkCounts,
  readPending: ReadPending,
): () => void {
  const of = sources.get(metricSource(source))!
  const tracker: Counting = { counts, readPending: new WeakRef(readPending) }
  of.counting.add(tracker)
  const end = () => of.end(tracker)
  garbage.register(readPending, end)
  return end
}

/** Counts marks that one statement has stored. `passed` are all ids of the caller, `stored` the distinct ones. */
export function countMarks(source: string | undefined, passed: number, stored: number): void {
  const { past } = sources.get(metricSource(source))!
  past.stored += stored
  past.deduplicated += passed - stored
}

/** What became of the marks of this process so far, by the names that the metrics have for sources. */
export function marksBySource(): Map<string, SourceMarks> {
  return new Map([...sources].map(([name, source]) => [name, source.sum()]))
}
