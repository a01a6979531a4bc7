import { diag, type Meter, type MeterProvider, metrics } from '@opentelemetry/api'
import { errorType } from '../database/error-type.ts'
import type { FinishedFlush } from './flush-log.ts'
import { observeBy } from './observed.ts'
import { attributesOf } from './queue-attributes.ts'

/*
 * What each worker counts of its own flushes. Only the API of OpenTelemetry is used: nothing happens until the host
 * registers an SDK.
 */

/** What the tracer and the meter of this package are called. */
export const SCOPE = 'workspace-usage'

/** Seconds. A flush of a full batch takes some tens of milliseconds, and at most 25 seconds. */
const DURATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25]

/** Counts a flush that has committed. Never throws. */
export function countFlush(queue: string, { result, durationMs }: FinishedFlush): void {
  const attributes = attributesOf(queue)
  withInstruments(counted => {
    counted.duration.record(durationMs / 1_000, attributes)
    for (const [source, marks] of Object.entries(result.bySource))
      counted.marks.add(marks, { ...attributes, source })
    counted.workspaces.add(result.updated, attributes)
    for (const fate of FATES) counted[fate].add(result[fate], attributes)
  })
}

/**
 * Counts a flush that has failed. Never throws.
 *
 * @param attempt Null if it failed before its job was looked at. Then nobody knows how long it took.
 */
export function countFailure(queue: string, error: unknown, attempt: { elapsedMs: number } | null): void {
  const attributes = { ...attributesOf(queue), 'error.type': errorType(error) }
  withInstruments(counted => {
    if (attempt) counted.duration.record(attempt.elapsedMs / 1_000, attributes)
    counted.failures.add(1, attributes)
  })
}

/** Looks whether an SDK was registered meanwhile. Never throws. */
export function findSdk(): void {
  withInstruments(() => {})
}

/** What the SDK of the host throws is told to the logger of OpenTelemetry. It must not make a flush fail. */
export function safely(run: () => void): void {
  try {
    run()
  } catch (error) {
    diag.error('workspace-usage: telemetry of a worker failed', error)
  }
}

const FATES = ['unknown', 'held', 'awaited', 'refused'] as const

/** The API keeps no instruments for an SDK that is registered later, so they are made anew for each provider. */
const made = new WeakMap<MeterProvider, ReturnType<typeof makeInstruments>>()

function withInstruments(use: (instruments: ReturnType<typeof makeInstruments>) => void): void {
  safely(() => {
    const provider = metrics.getMeterProvider()
    const meter = provider.getMeter(SCOPE)
    observeBy(provider, meter)
    const instruments = made.get(provider) ?? makeInstruments(meter)
    made.set(provider, instruments)
    use(instruments)
  })
}

function makeInstruments(meter: Meter) {
  const marks = (name: string, description: string) =>
    meter.createCounter(`workspace_usage.flush.${name}`, { unit: '{mark}', description })
  return {
    duration: meter.createHistogram('workspace_usage.flush.duration', {
      unit: 's',
      description: 'How long a flush took',
      advice: { explicitBucketBoundaries: DURATION_BUCKETS },
    }),
    marks: marks('marks', 'Marks that flushes have consumed'),
    workspaces: meter.createCounter('workspace_usage.flush.workspaces', {
      unit: '{workspace}',
      description: 'Rows of workspaces whose last_used_at moved forward',
    }),
    unknown: marks('unknown', 'Consumed marks of workspaces that do not exist'),
    held: marks('held', 'Marks that a flush left pending because another transaction holds their workspace'),
    awaited: marks('awaited', 'Marks that a flush left pending because their workspace does not exist yet'),
    refused: marks('refused', 'Marks that a flush left pending because the database refuses the update'),
    failures: meter.createCounter('workspace_usage.flush.failures', {
      unit: '{failure}',
      description: 'Flushes that failed',
    }),
  }
}
