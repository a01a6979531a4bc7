import type { Attributes, BatchObservableCallback, Meter, MeterProvider } from '@opentelemetry/api'
import type { FailingFlushes } from '../activity/failing-flushes.ts'
import type { LastFlush } from '../activity/last-flush.ts'
import type { Problem } from '../activity/problem.ts'
import type { PendingStatus } from '../activity/status.ts'
import { endsWithin } from './ends-within.ts'
import { type CollectedPoints, Points } from './observed-points.ts'
import { attributesOf } from './queue-attributes.ts'

/*
 * What each worker says of the database: the same in all of them. The database is asked only when an SDK collects, once
 * for each collection, however many workers this process has.
 */

/** The longest wait for the verdict, in ms. A scrape of Prometheus waits 10 seconds. */
const VERDICT_TIMEOUT_MS = 5_000

/** What is observed of the health verdict. */
interface Verdict {
  ok: boolean
  problems: Pick<Problem, 'code' | 'severity' | 'object'>[]
  pending: PendingStatus | null
  failing: FailingFlushes | null
  lastFlush: LastFlush | null
  resets: number
  failedJobs: number
}

type Ask = () => Promise<Verdict>

/** The queues whose workers run in this process. */
const observed = new Map<string, Observation>()

/**
 * Begins to observe the schema of a queue for a worker.
 *
 * @returns Ends it. Others may go on to observe the same queue.
 */
export function startObserving(queue: string, ask: Ask): () => void {
  const observation = observed.get(queue) ?? new Observation(queue)
  observed.set(queue, observation)
  observation.asks.push(ask)
  return () => {
    observation.asks = observation.asks.filter(other => other !== ask)
    if (observation.asks.length > 0) return
    observation.leave()
    observed.delete(queue)
  }
}

/** Lets the SDK that is registered now collect what is observed, and no other. */
export function observeBy(provider: MeterProvider, meter: Meter): void {
  for (const observation of observed.values()) observation.join(provider, meter)
}

class Observation {
  /** One for each worker. The first is asked. */
  asks: Ask[] = []
  readonly #attributes: Attributes
  #provider: MeterProvider | undefined
  #leave = () => {}
  /** Collections at the same time share it, and one that is late. */
  #asking: Promise<Verdict> | undefined

  constructor(queue: string) {
    this.#attributes = attributesOf(queue)
  }

  join(provider: MeterProvider, meter: Meter): void {
    if (this.#provider === provider) return
    this.leave()
    const gauges = makeGauges(meter)
    const points = new Points()
    const callback: BatchObservableCallback = async result => {
      report(points.of(result), gauges, await this.#verdict(), this.#attributes)
    }
    meter.addBatchObservableCallback(callback, Object.values(gauges))
    this.#provider = provider
    this.#leave = () => meter.removeBatchObservableCallback(callback, Object.values(gauges))
  }

  leave(): void {
    this.#leave()
    this.#leave = () => {}
    this.#provider = undefined
  }

  /** Null if there is none in time. */
  async #verdict(): Promise<Verdict | null> {
    const [ask] = this.asks
    if (!ask) return null
    this.#asking ??= ask().finally(() => {
      this.#asking = undefined
    })
    const asking = this.#asking
    try {
      return (await endsWithin(asking, VERDICT_TIMEOUT_MS)) ? await asking : null
    } catch {
      return null
    }
  }
}

/** If the database gives no verdict, then that it is not healthy is all that is known. */
const UNAVAILABLE = { code: 'unavailable', severity: 'critical', object: null } as const

function report(
  points: CollectedPoints,
  gauges: ReturnType<typeof makeGauges>,
  health: Verdict | null,
  attributes: Attributes,
): void {
  points.observe(gauges.healthy, health?.ok ? 1 : 0, attributes)
  for (const { code, severity, object } of health?.problems ?? [UNAVAILABLE]) {
    const named = { ...attributes, code, severity, ...(object !== null && { object }) }
    points.observe(gauges.problems, 1, named, 0)
  }
  if (health?.pending) {
    const { open, closed, held, awaited, refused, until, lagSeconds } = health.pending
    points.observe(gauges.lag, lagSeconds, attributes, Number.NaN)
    const states = { open, closed: closed - held - awaited - refused, held, awaited, refused, until }
    for (const [state, marks] of Object.entries(states)) {
      points.observe(gauges.pending, marks, { ...attributes, state }, Number.NaN)
    }
    points.observe(gauges.consecutiveFailures, health.failing?.attempts ?? 0, attributes, Number.NaN)
    points.observe(gauges.failedJobs, health.failedJobs, attributes, Number.NaN)
    // These two stay true while nothing else is known.
    points.observe(gauges.resets, health.resets, attributes)
    if (health.lastFlush) {
      points.observe(gauges.lastSuccess, health.lastFlush.completedAt.getTime() / 1_000, attributes)
    }
  }
  points.finish()
}

function makeGauges(meter: Meter) {
  const gauge = (name: string, unit: string, description: string) =>
    meter.createObservableGauge(`workspace_usage.${name}`, { unit, description })
  return {
    lag: gauge(
      'lag',
      's',
      'Time since the end of the oldest closed period with a mark that is not set aside',
    ),
    pending: gauge('pending', '{mark}', 'Marks that are not flushed yet'),
    consecutiveFailures: gauge(
      'flush.consecutive_failures',
      '{failure}',
      'Flush jobs that failed since the last flush that committed, as far as pg-boss still has them',
    ),
    lastSuccess: gauge('flush.last_success', 's', 'When the last flush committed, as Unix time'),
    failedJobs: gauge('failed_jobs', '{job}', 'Flush jobs that failed for good'),
    problems: gauge('problems', '{problem}', 'Problems of the health verdict: 1 for each that there is'),
    healthy: gauge('healthy', '', 'Whether the health verdict has no problem: 1 or 0'),
    resets: meter.createObservableCounter('workspace_usage.resets', {
      unit: '{reset}',
      description: 'How often pending marks were lost, by a crash, a promotion or a restore',
    }),
  }
}
