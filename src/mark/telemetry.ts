import { diag, type Histogram, type Meter, type MeterProvider, metrics } from '@opentelemetry/api'
import { errorType } from '../database/error-type.ts'
import { marksBySource, metricSource } from './marks-by-source.ts'

/*
 * The metrics of marks, by the API of OpenTelemetry. Nothing is reported until the program registers an SDK.
 *
 * The API has no proxy for meters: an instrument stays with the provider that made it, and before an SDK is registered
 * that is one that does nothing. So the provider is looked up again at each new tracker and at each statement. Marks
 * that were answered from memory are only read when an SDK collects. So nothing is added to the path of such a mark,
 * and the counters hold what came before the SDK as well. Only the histograms begin with it.
 */

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const MARKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000]

interface BatchHistograms {
  duration: Histogram
  size: Histogram
}

const histograms = new WeakMap<MeterProvider, BatchHistograms>()

/** Reports to the SDK that is registered now, if there is one and it was not found before. Never throws. */
export function findSdk(): void {
  withHistograms(() => {})
}

/**
 * Runs a statement that stores marks, and records how long it took, the wait for a connection included. Throws what the
 * statement throws, and nothing else.
 */
export async function recordBatch<Result>(
  source: string | undefined,
  marks: number,
  store: () => Promise<Result>,
): Promise<Result> {
  const sentAt = performance.now()
  try {
    const result = await store()
    withHistograms(({ duration, size }) => {
      const attributes = { source: metricSource(source) }
      duration.record((performance.now() - sentAt) / 1_000, attributes)
      size.record(marks, attributes)
    })
    return result
  } catch (error) {
    withHistograms(({ duration }) => {
      const attributes = { source: metricSource(source), 'error.type': errorType(error) }
      duration.record((performance.now() - sentAt) / 1_000, attributes)
    })
    throw error
  }
}

/** Marks are worth more than metrics: what an SDK throws is told to the logger of OpenTelemetry, and to nobody else. */
function withHistograms(use: (histograms: BatchHistograms) => void): void {
  try {
    const provider = metrics.getMeterProvider()
    let found = histograms.get(provider)
    if (!found) {
      found = createInstruments(provider.getMeter('workspace-usage'))
      histograms.set(provider, found)
    }
    use(found)
  } catch (error) {
    diag.error('workspace-usage: metrics of marks failed', error)
  }
}

function createInstruments(meter: Meter): BatchHistograms {
  observeMarks(meter)
  return {
    duration: meter.createHistogram('workspace_usage.mark_batch.duration', {
      description: 'Duration of the statements that store marks; the failed ones have error.type',
      unit: 's',
      advice: { explicitBucketBoundaries: SECONDS },
    }),
    size: meter.createHistogram('workspace_usage.mark_batch.size', {
      description: 'Marks of one statement that stored them',
      unit: '{mark}',
      advice: { explicitBucketBoundaries: MARKS },
    }),
  }
}

/** Has the SDK read the counts whenever it collects. */
function observeMarks(meter: Meter): void {
  const counter = (name: string, unit: string, description: string) =>
    meter.createObservableCounter(`workspace_usage.${name}`, { unit, description })
  const marked = counter('marks', '{mark}', 'Marks that were made')
  const deduplicated = counter('marks.deduplicated', '{mark}', 'Marks that needed no statement of their own')
  const stored = counter('marks.stored', '{mark}', 'Marks that a statement stored')
  const dropped = counter('marks.dropped', '{mark}', 'Marks lost: too many waited, or close gave up')
  const retries = counter('mark_batch.retries', '{retry}', 'Statements that were sent again after a failure')
  const pending = meter.createObservableGauge('workspace_usage.tracker.pending', {
    description: 'Workspaces whose marks wait in memory, or are under way',
    unit: '{workspace}',
  })
  meter.addBatchObservableCallback(
    observer => {
      for (const [source, marks] of marksBySource()) {
        observer.observe(marked, marks.marked, { source })
        observer.observe(deduplicated, marks.deduplicated, { source })
        observer.observe(stored, marks.stored, { source })
        observer.observe(dropped, marks.dropped, { source })
        observer.observe(retries, marks.retries, { source })
        observer.observe(pending, marks.pending, { source })
      }
    },
    [marked, deduplicated, stored, dropped, retries, pending],
  )
}
