import { metrics } from '@opentelemetry/api'
import { PrometheusExporter, PrometheusSerializer } from '@opentelemetry/exporter-prometheus'
import { MeterProvider, type ResourceMetrics } from '@opentelemetry/sdk-metrics'
import type { Logger } from '../logger.ts'

/** The longest wait for a value that is asked of the database, in ms. A scrape of Prometheus waits ten seconds. */
const COLLECT_TIMEOUT_MS = 8_000

/** What Prometheus calls its text format. */
export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/** The metrics of this process. */
export interface Metrics {
  /** All of them, in the text format of Prometheus. */
  read(): Promise<string>
  /** Ends the collection. The instruments do nothing from then on. */
  stop(): Promise<void>
}

/**
 * Collects the metrics of this process, pg-boss's included. Only instruments that are made afterwards count, so this
 * comes before the worker.
 */
export function startMetrics(logger: Logger): Metrics {
  // It opens no port of its own, and is read by our route.
  const reader = new PrometheusExporter({ preventServerStart: true })
  const provider = new MeterProvider({ readers: [reader] })
  if (!metrics.setGlobalMeterProvider(provider)) {
    logger.warn(
      {},
      'an OpenTelemetry SDK is registered already; /metrics stays empty, read the metrics there',
    )
  }
  const text = new PrometheusSerializer(undefined, false, undefined, true, true)
  let told = false
  return {
    read: async () => {
      const { resourceMetrics, errors } = await reader.collect({ timeoutMillis: COLLECT_TIMEOUT_MS })
      if (errors.length > 0 && !told) logger.warn({ err: errors[0] }, 'some metrics can not be read')
      told = errors.length > 0
      return text.serialize(withUnits(resourceMetrics))
    },
    stop: async () => {
      // Only if it is ours: a host's SDK stays.
      if (metrics.getMeterProvider() === provider) metrics.disable()
      await provider.shutdown()
    },
  }
}

/**
 * Adds the unit to the names of metrics in seconds, as the conventions of OpenTelemetry for Prometheus ask. The exporter
 * leaves it out, and a collector does not: one rule or dashboard could not serve both.
 */
function withUnits({ resource, scopeMetrics }: ResourceMetrics): ResourceMetrics {
  const named = scopeMetrics.map(({ scope, metrics }) => ({
    scope,
    metrics: metrics.map(metric => {
      const { descriptor } = metric
      const isBare = descriptor.unit === 's' && !/[._]seconds$/.test(descriptor.name)
      return isBare
        ? { ...metric, descriptor: { ...descriptor, name: `${descriptor.name}.seconds` } }
        : metric
    }),
  }))
  return { resource, scopeMetrics: named }
}
