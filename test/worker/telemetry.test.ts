import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { context, metrics, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { DataPointType } from '@opentelemetry/sdk-metrics'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { startWorker } from '../support/flush-worker.ts'
import { startWaitingJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { collectMetrics, pointsOf } from '../support/metrics.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

afterEach(() => {
  metrics.disable()
  trace.disable()
  context.disable()
})

/** Registers an SDK for spans that keeps them in memory. */
function startSpans(): InMemorySpanExporter {
  const exporter = new InMemorySpanExporter()
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }),
  )
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  return exporter
}

test('the metrics of a flush tell its marks by source, its workspaces and how long it took', async () => {
  const database = await createTestDatabase()
  const sdk = collectMetrics()
  const ids = await createWorkspaces(database.pool, 3)
  await storeClosedMarks(database.pool, ids, { source: 'ssh' })
  await storeClosedMarks(database.pool, ids.slice(0, 2), { source: 'vscode' })
  const log = collectLog()
  await using _worker = await startWorker(database, log, { flushIntervalSeconds: 3_600 })
  await until('the flush', () => log.find('updated workspaces last_used_at').length === 1)
  const seen = await sdk.all()
  assert.deepEqual(pointsOf(seen.get('workspace_usage.flush.marks')), [
    [{ source: 'ssh' }, 3],
    [{ source: 'vscode' }, 2],
  ])
  assert.deepEqual(pointsOf(seen.get('workspace_usage.flush.workspaces')), [[{}, 3]])
  for (const fate of ['unknown', 'held', 'awaited', 'refused'])
    assert.deepEqual(pointsOf(seen.get(`workspace_usage.flush.${fate}`)), [[{}, 0]], fate)
  const duration = seen.get('workspace_usage.flush.duration')!
  assert.equal(duration.dataPointType, DataPointType.HISTOGRAM)
  assert.deepEqual(
    pointsOf(duration).map(([attributes, value]) => [attributes, (value as { count: number }).count]),
    [[{}, 1]],
  )
  assert.deepEqual(
    [...seen]
      .filter(([name]) => name.startsWith('workspace_usage.flush.'))
      .map(([name, { descriptor }]) => [name, descriptor.unit])
      .filter(([name]) => !/consecutive|last_success/.test(name!)),
    [
      ['workspace_usage.flush.duration', 's'],
      ['workspace_usage.flush.marks', '{mark}'],
      ['workspace_usage.flush.workspaces', '{workspace}'],
      ['workspace_usage.flush.unknown', '{mark}'],
      ['workspace_usage.flush.held', '{mark}'],
      ['workspace_usage.flush.awaited', '{mark}'],
      ['workspace_usage.flush.refused', '{mark}'],
    ],
  )
})

test('a flush that fails is counted by its SQLSTATE, and its span has the error', async () => {
  const database = await createTestDatabase()
  const sdk = collectMetrics()
  const spans = startSpans()
  const [id] = await createWorkspaces(database.pool, 1)
  await storeClosedMarks(database.pool, [id!])
  await database.pool.query('ALTER TABLE workspace_usage_day RENAME TO workspace_usage_elsewhere')
  const log = collectLog()
  await using _worker = await startWorker(database, log, { flushIntervalSeconds: 3_600 })
  await until('a flush fails', async () => {
    await startWaitingJobs(database.pool)
    return log.find('flush failed').length === 1
  })
  const seen = await sdk.all()
  const failures = pointsOf(seen.get('workspace_usage.flush.failures'))
  assert.deepEqual(failures[0]![0], { 'error.type': '42P01' })
  const [attributes, value] = pointsOf(seen.get('workspace_usage.flush.duration'))[0]!
  assert.deepEqual(attributes, { 'error.type': '42P01' })
  assert.ok((value as { count: number }).count >= 1)
  const [span] = spans.getFinishedSpans()
  assert.equal(span!.status.code, SpanStatusCode.ERROR)
  assert.match(span!.status.message!, /workspace_usage/)
  assert.equal(span!.attributes['error.type'], '42P01')
  assert.equal(span!.events[0]!.name, 'exception')
})

test('each flush has a span of its own with the id of its job and its counts, whatever span the worker was started in', async () => {
  const database = await createTestDatabase()
  const spans = startSpans()
  const ids = await createWorkspaces(database.pool, 2)
  await storeClosedMarks(database.pool, ids)
  const log = collectLog()
  const jobIds: string[] = []
  const worker = await trace.getTracer('host').startActiveSpan('start', async host => {
    const onFlush = ({ jobId }: { jobId: string }) => jobIds.push(jobId)
    const started = await startWorker(database, log, { flushIntervalSeconds: 3_600, onFlush })
    host.end()
    return started
  })
  await until('the flush', () => jobIds.length > 0)
  await worker.stop()
  const flush = spans.getFinishedSpans().find(({ name }) => name === 'workspace_usage.flush')!
  assert.equal(flush.kind, SpanKind.CONSUMER)
  assert.equal(flush.parentSpanContext, undefined)
  assert.equal(flush.status.code, SpanStatusCode.UNSET)
  assert.deepEqual(flush.attributes, {
    'messaging.system': 'pg-boss',
    'messaging.operation.name': 'process',
    'messaging.operation.type': 'process',
    'messaging.destination.name': FLUSH_QUEUE,
    'messaging.message.id': jobIds[0],
    'workspace_usage.flush.flushed': 2,
    'workspace_usage.flush.workspaces': 2,
    'workspace_usage.flush.updated': 2,
    'workspace_usage.flush.unknown': 0,
    'workspace_usage.flush.held': 0,
    'workspace_usage.flush.awaited': 0,
    'workspace_usage.flush.refused': 0,
    'workspace_usage.flush.full': false,
    'workspace_usage.flush.emptied': false,
  })
})

test('the statements of a flush, its COMMIT included, run while its span is active', async () => {
  const database = await createTestDatabase()
  startSpans()
  const texts = new Map<string, string | undefined>()
  const pool = database.pool
  const client = await pool.connect()
  const prototype = Object.getPrototypeOf(client) as { query(...parameters: unknown[]): unknown }
  client.release()
  const { query } = prototype
  // This is what instrumentation of pg does.
  prototype.query = function (this: unknown, ...parameters: unknown[]) {
    const [text] = parameters as [string | { text: string }]
    const active = trace.getActiveSpan() as { name?: string } | undefined
    const key = (typeof text === 'string' ? text : text.text).trim().slice(0, 24)
    if (active || !texts.has(key)) texts.set(key, active?.name)
    return query.apply(this, parameters)
  }
  try {
    const log = collectLog()
    await using _worker = await startFlushWorker({ database: pool, logger: log.logger })
    await until('the flush', () => log.find('nothing to flush').length === 1)
  } finally {
    prototype.query = query
  }
  assert.equal(texts.get('SAVEPOINT usage_flush'), 'workspace_usage.flush')
  assert.equal(texts.get('COMMIT'), 'workspace_usage.flush')
})

test('an SDK that is registered after the start of a worker gets the metrics of its next flush', async () => {
  const database = await createTestDatabase()
  const log = collectLog()
  await using _worker = await startWorker(database, log, { flushIntervalSeconds: 1 })
  await until('a flush', () => log.find('nothing to flush').length === 1)
  const sdk = collectMetrics()
  await until('its flush is counted', async () => (await sdk.all()).has('workspace_usage.flush.duration'))
})

test('an SDK that throws makes no flush fail', async () => {
  const database = await createTestDatabase()
  const broken = () => {
    throw new Error('broken SDK')
  }
  metrics.setGlobalMeterProvider({ getMeter: broken })
  trace.setGlobalTracerProvider({ getTracer: broken })
  const [id] = await createWorkspaces(database.pool, 1)
  await storeClosedMarks(database.pool, [id!])
  const log = collectLog()
  await using _worker = await startWorker(database, log, { flushIntervalSeconds: 1 })
  await until('it flushes', () => log.find('updated workspaces last_used_at').length === 1)
  assert.deepEqual(log.find('fail'), [])
})
