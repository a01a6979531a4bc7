import assert from 'node:assert/strict'
import { test } from 'node:test'
import { metrics } from '@opentelemetry/api'
import { startMetrics } from '../../src/http/metrics.ts'
import { collectLog } from '../support/log-lines.ts'

test('the names of metrics in seconds end with the unit, those of others do not, and no name has it twice', async () => {
  const collected = startMetrics(collectLog().logger)
  const meter = metrics.getMeter('test')
  meter.createHistogram('duration', { unit: 's' }).record(1)
  meter.createGauge('wait_seconds', { unit: 's' }).record(1)
  meter.createCounter('busy', { unit: 's' }).add(1)
  meter.createCounter('jobs', { unit: '{job}' }).add(1)
  const text = await collected.read()
  await collected.stop()
  const names = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name)
  assert.deepEqual(names.sort(), ['busy_seconds_total', 'duration_seconds', 'jobs_total', 'wait_seconds'])
  assert.match(text, /^duration_seconds_bucket\{le="5"\} 1$/m)
})
