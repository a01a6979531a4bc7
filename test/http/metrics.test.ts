import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createTestDatabase } from '../support/database.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { metricValue, readMetrics, startWorkerWithPort, untilMetric } from '../support/worker-port.ts'

const UNKNOWN = '00000000-0000-4000-8000-000000000000'

test('after known marks /metrics tells each number, with the type that its name promises', async t => {
  const database = await createTestDatabase()
  const ids = await createWorkspaces(database.pool, 3)
  await storeClosedMarks(database.pool, ids, { source: 'ssh' })
  await storeClosedMarks(database.pool, ids.slice(1), { source: 'vs "code"\\\n' })
  const { url, stop } = await startWorkerWithPort(database)
  t.after(stop)
  await untilMetric(url, 'workspace_usage_flush_workspaces_total', {}, value => value === 3)
  const families = await readMetrics(url)
  const value = (name: string, labels?: Record<string, string>) => metricValue(families, name, labels)
  assert.equal(value('workspace_usage_flush_marks_total', { source: 'ssh' }), 3)
  assert.equal(value('workspace_usage_lag_seconds'), 0)
  assert.equal(value('workspace_usage_resets_total'), 0)
  assert.equal(value('workspace_usage_failed_jobs'), 0)
  assert.equal(value('workspace_usage_flush_consecutive_failures'), 0)
  for (const state of ['open', 'closed', 'held', 'awaited', 'refused', 'until']) {
    assert.equal(value('workspace_usage_pending', { state }), 0, state)
  }
  const success = value('workspace_usage_flush_last_success_seconds')!
  assert.ok(Math.abs(success - Date.now() / 1_000) < 60, String(success))
  const types = Object.fromEntries(families.map(({ name, type }) => [name, type]))
  const expected = {
    workspace_usage_flush_duration_seconds: 'HISTOGRAM',
    workspace_usage_flush_marks_total: 'COUNTER',
    workspace_usage_flush_workspaces_total: 'COUNTER',
    workspace_usage_flush_unknown_total: 'COUNTER',
    workspace_usage_flush_refused_total: 'COUNTER',
    workspace_usage_resets_total: 'COUNTER',
    workspace_usage_lag_seconds: 'GAUGE',
    workspace_usage_pending: 'GAUGE',
    workspace_usage_healthy: 'GAUGE',
    workspace_usage_flush_last_success_seconds: 'GAUGE',
  }
  for (const [name, type] of Object.entries(expected)) assert.equal(types[name], type, name)
})

test('/metrics has the content type of the text format, and no series that tells nothing of us', async t => {
  const { url, stop } = await startWorkerWithPort(await createTestDatabase())
  t.after(stop)
  const response = await fetch(new URL('/metrics', url))
  assert.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  const text = await response.text()
  assert.doesNotMatch(text, /target_info|otel_scope/)
  assert.match(text, /^workspace_usage_healthy [01]$/m)
  assert.ok((await readMetrics(url)).length > 5)
})

test('each worker of a process counts from zero, and nothing is counted after its end', async () => {
  for (const marks of [2, 1]) {
    const database = await createTestDatabase()
    await storeClosedMarks(database.pool, await createWorkspaces(database.pool, marks), { source: 'ssh' })
    const { url, stop } = await startWorkerWithPort(database)
    await untilMetric(url, 'workspace_usage_flush_marks_total', { source: 'ssh' }, value => value === marks)
    await stop()
  }
})

test('a problem of the verdict is a series with its code, and is gone with the problem', async t => {
  const database = await createTestDatabase()
  const { url, stop } = await startWorkerWithPort(database)
  t.after(stop)
  await untilMetric(url, 'workspace_usage_healthy', {}, value => value === 1)
  await storeClosedMarks(database.pool, [UNKNOWN], { agoMs: 600_000 })
  await database.pool.query('ALTER TABLE pending_usage SET LOGGED')
  await untilMetric(url, 'workspace_usage_healthy', {}, value => value === 0)
  const isLogged = async () => {
    const problems = (await readMetrics(url)).find(({ name }) => name === 'workspace_usage_problems')
    return problems?.metrics.some(({ labels }) => labels?.code === 'logged-marks')
  }
  assert.equal(await isLogged(), true)
  const ready = await fetch(new URL('/readyz?severity=warning', url))
  assert.equal(ready.status, 503)
  assert.ok((await ready.text()).includes('logged-marks'))
  await database.pool.query('ALTER TABLE pending_usage SET UNLOGGED')
  await untilMetric(url, 'workspace_usage_healthy', {}, value => value === 1)
  assert.equal((await fetch(new URL('/readyz?severity=warning', url))).status, 200)
})

test('while the database is silent every route answers in time: not alive, not ready, not healthy', async t => {
  const database = await createTestDatabase()
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const { url, stop } = await startWorkerWithPort({ connectionString: proxy.connectionString })
  t.after(stop)
  await untilMetric(url, 'workspace_usage_healthy', {}, value => value === 1)
  proxy.silence('silent')
  const ask = async (path: string) => {
    const started = performance.now()
    const response = await fetch(new URL(path, url), { signal: AbortSignal.timeout(15_000) })
    const text = await response.text()
    assert.ok(performance.now() - started < 9_500, `${path} took ${performance.now() - started} ms`)
    return [response.status, text] as const
  }
  const [health, ready, metrics] = await Promise.all([ask('/healthz'), ask('/readyz'), ask('/metrics')])
  assert.equal(health[0], 503)
  assert.equal(ready[0], 503)
  assert.ok(ready[1].includes('"unavailable"'), ready[1])
  assert.equal(metrics[0], 200)
  assert.match(metrics[1], /^workspace_usage_healthy 0$/m)
  assert.match(metrics[1], /^workspace_usage_problems\{[^}]*code="unavailable"[^}]*\} 1$/m)
})
