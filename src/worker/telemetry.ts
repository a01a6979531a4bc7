import { type Attributes, type Meter, type MeterProvider, metrics } from '@opentelemetry/api'
import { errorType } from '../database/error-type.ts'
import type { FinishedFlush } from './flush-log.ts'
import { FLUSH_QUEUE } from './queue.ts'

/*
 * What each worker counts of its own flushes. Only the API of OpenTelemetry is used: nothing happens until the host
 * registers an SDK.
 */

/** What the tracer and the meter of this package are called. */
export const SCOPE = 'workspace-usage'

/** Seconds. A flush of a full batch takes some tens of milliseconds, and at most 25 seconds. */
const DURATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25]

/** Workers of the schema `public` need no name. Those of another schema are told apart by their queue. */
export function attributesOf(queue: string): Attributes {
  return queue === FLUSH_QUEUE ? {} : { 'messaging.destination.name': queue }
}

/** Counts a flush that has committed. */
export function countFlush(queue: string, { result, durationMs }: FinishedFlush): void {
  const attributes = attributesOf(queue)
  const counted = instruments()
  counted.duration.record(durationMs / 1_000, attributes)
  for (const [source, marks] of Object.entries(result.bySource))
    counted.marks.add(marks, { ...attributes, source })
  counted.workspaces.add(result.updated, attributes)
  for (const fate of FATES) counted[fate].add(result[fate], attributes)
}

/**
 * Counts a flush that has failed.
 *
 * @param attempt Null if it failed before its job was looked at. Then nobody knows how long it took.
 */
export function countFailure(queue: string, error: unknown, attempt: { elapsedMs: number } | null): void {
  const attributes = { ...attributesOf(queue), 'error.type': errorType(error) }
  const counted = instruments()
  if (attempt) counted.duration.record(attempt.elapsedMs / 1_000, attributes)
  counted.failures.add(1, attributes)
}

const FATES = ['unknown', 'held', 'awaited', 'refused'] as const

/** The API keeps no instruments for an SDK that is registered later, so they are made anew for each provider. */
const made = new WeakMap<MeterProvider, ReturnType<typeof makeInstruments>>()

function instruments(): ReturnType<typeof makeInstruments> {
  const provider = metrics.getMeterProvider()
  const known = made.get(provider)
  if (known) return known
  const fresh = makeInstruments(provider.getMeter(SCOPE))
  made.set(provider, fresh)
  return fresh
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
