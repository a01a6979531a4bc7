import { type Attributes, metrics, type MeterProvider as Provider } from '@opentelemetry/api'
import {
  DataPointType,
  type Histogram,
  MeterProvider,
  type MetricData,
  MetricReader,
} from '@opentelemetry/sdk-metrics'

/** A reader that collects when a test asks, and sends nothing anywhere. */
class AskedReader extends MetricReader {
  protected override async onForceFlush(): Promise<void> {}
  protected override async onShutdown(): Promise<void> {}
}

/** The metrics of this package in this process. See {@link collectMetrics}. */
export interface CollectedMetrics {
  readonly provider: Provider
  /** All metrics now, by name. */
  all(): Promise<Map<string, MetricData>>
  /** Type and unit of each metric that has a point with exactly these attributes. */
  described(attributes: Attributes): Promise<Record<string, string>>
  /** The counters and gauges with exactly these attributes, by name without `workspace_usage.`. */
  values(attributes: Attributes): Promise<Record<string, number>>
  /** A histogram with exactly these attributes. */
  histogram(name: string, attributes: Attributes): Promise<Histogram | undefined>
  /** Takes it away as the process's SDK. */
  unregister(): void
}

/** Makes an SDK for metrics, and registers it for the process unless told otherwise. */
export function collectMetrics({ register = true } = {}): CollectedMetrics {
  const reader = new AskedReader()
  const provider = new MeterProvider({ readers: [reader] })
  if (register && !metrics.setGlobalMeterProvider(provider)) throw new Error('another SDK is registered')
  const all = async () => {
    const { resourceMetrics, errors } = await reader.collect()
    if (errors.length > 0) throw new AggregateError(errors)
    const ours = resourceMetrics.scopeMetrics.filter(({ scope }) => scope.name === 'workspace-usage')
    return new Map(
      ours.flatMap(scope => scope.metrics.map(metric => [metric.descriptor.name, metric] as const)),
    )
  }
  const points = async (attributes: Attributes) =>
    [...(await all())].flatMap(([name, metric]) => {
      const point = metric.dataPoints.find(point => isSame(point.attributes, attributes))
      return point ? [{ name, metric, value: point.value }] : []
    })
  return {
    provider,
    all,
    async described(attributes) {
      const found = await points(attributes)
      return Object.fromEntries(
        found.map(({ name, metric }) => [name, `${typeOf(metric)} ${metric.descriptor.unit}`]),
      )
    },
    async values(attributes) {
      const numbers = (await points(attributes)).filter(({ value }) => typeof value === 'number')
      return Object.fromEntries(
        numbers.map(({ name, value }) => [name.replace('workspace_usage.', ''), value as number]),
      )
    },
    async histogram(name, attributes) {
      const found = (await points(attributes)).find(point => point.name === name)
      return found?.value as Histogram | undefined
    },
    unregister: () => metrics.disable(),
  }
}

function isSame(one: Attributes, other: Attributes): boolean {
  const sorted = (attributes: Attributes) => JSON.stringify(Object.entries(attributes).sort())
  return sorted(one) === sorted(other)
}

function typeOf(metric: MetricData): string {
  switch (metric.dataPointType) {
    case DataPointType.SUM:
      return metric.isMonotonic ? 'counter' : 'sum'
    case DataPointType.GAUGE:
      return 'gauge'
    default:
      return 'histogram'
  }
}

/** The points of a metric: attributes and value. */
export function pointsOf(metric: MetricData | undefined): [attributes: Attributes, value: unknown][] {
  return (metric?.dataPoints ?? []).map(({ attributes, value }) => [attributes, value])
}
