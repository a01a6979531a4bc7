import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { metrics } from '@opentelemetry/api'
import { DataPointType } from '@opentelemetry/sdk-metrics'
import { startObserving } from '../../src/worker/observed.ts'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { findSdk } from '../../src/worker/telemetry.ts'
import { collectMetrics, pointsOf } from '../support/metrics.ts'

afterEach(() => metrics.disable())

const VERDICT = {
  ok: false,
  problems: [
    { code: 'lag', severity: 'critical', object: null },
    { code: 'silent-source', severity: 'warning', object: 'ssh' },
  ],
  pending: { open: 1, closed: 20, held: 2, awaited: 3, refused: 4, until: 5, lagSeconds: 200.5 },
  failing: { since: new Date(), attempts: 7, lastAt: new Date(), message: 'no' },
  lastFlush: { completedAt: new Date(1_700_000_000_500) },
  resets: 2,
  failedJobs: 5,
} as unknown as Awaited<ReturnType<Parameters<typeof startObserving>[1]>>

test('the verdict is observed as metrics with their names, units and attributes', async () => {
  const sdk = collectMetrics()
  const stop = startObserving(FLUSH_QUEUE, async () => VERDICT)
  findSdk()
  const seen = await sdk.all()
  const expected: Record<string, [unit: string, points: [object, number][]]> = {
    'workspace_usage.lag': ['s', [[{}, 200.5]]],
    'workspace_usage.pending': [
      '{mark}',
      [
        [{ state: 'open' }, 1],
        [{ state: 'closed' }, 11],
        [{ state: 'held' }, 2],
        [{ state: 'awaited' }, 3],
        [{ state: 'refused' }, 4],
        [{ state: 'until' }, 5],
      ],
    ],
    'workspace_usage.flush.consecutive_failures': ['{failure}', [[{}, 7]]],
    'workspace_usage.flush.last_success': ['s', [[{}, 1_700_000_000.5]]],
    'workspace_usage.failed_jobs': ['{job}', [[{}, 5]]],
    'workspace_usage.problems': [
      '{problem}',
      [
        [{ code: 'lag', severity: 'critical' }, 1],
        [{ code: 'silent-source', severity: 'warning', object: 'ssh' }, 1],
      ],
    ],
    'workspace_usage.healthy': ['', [[{}, 0]]],
    'workspace_usage.resets': ['{reset}', [[{}, 2]]],
  }
  for (const [name, [unit, points]] of Object.entries(expected)) {
    assert.equal(seen.get(name)?.descriptor.unit, unit, name)
    assert.deepEqual(pointsOf(seen.get(name)), points, name)
    const type = name === 'workspace_usage.resets' ? DataPointType.SUM : DataPointType.GAUGE
    assert.equal(seen.get(name)?.dataPointType, type, name)
  }
  stop()
})

test('nothing is asked without an SDK, and one question answers a collection for all workers of a queue', async () => {
  let asked = 0
  const ask = async () => {
    asked++
    return VERDICT
  }
  const stops = [startObserving(FLUSH_QUEUE, ask), startObserving(FLUSH_QUEUE, async () => await ask())]
  findSdk()
  assert.equal(asked, 0)
  const sdk = collectMetrics()
  findSdk()
  const seen = await sdk.all()
  assert.equal(asked, 1)
  assert.deepEqual(pointsOf(seen.get('workspace_usage.lag')), [[{}, 200.5]])
  assert.equal(pointsOf(seen.get('workspace_usage.pending')).length, 6)
  await Promise.all([sdk.all(), sdk.all()])
  const before = asked
  stops[0]!()
  assert.ok((await sdk.all()).has('workspace_usage.lag'), 'the other worker goes on')
  assert.equal(asked, before + 1)
  stops[1]!()
  await sdk.all()
  assert.equal(asked, before + 1, 'without a worker nothing is asked')
})

test('workers of several schemas are told apart by the queue of those that are not public', async () => {
  const sdk = collectMetrics()
  const other = { ...VERDICT, resets: 9 }
  const stops = [
    startObserving(FLUSH_QUEUE, async () => VERDICT),
    startObserving('workspace-usage-flush.sales', async () => other),
  ]
  findSdk()
  assert.deepEqual(pointsOf((await sdk.all()).get('workspace_usage.resets')), [
    [{}, 2],
    [{ 'messaging.destination.name': 'workspace-usage-flush.sales' }, 9],
  ])
  for (const stop of stops) stop()
})

test('without a verdict in time, all that is observed is that the database is unavailable, and one question waits', async () => {
  const sdk = collectMetrics()
  let asked = 0
  const stop = startObserving(FLUSH_QUEUE, () => {
    asked++
    return new Promise(() => {})
  })
  findSdk()
  const started = performance.now()
  for (let collection = 0; collection < 2; collection++) {
    const seen = await sdk.all()
    const told = [...seen].filter(([, { dataPoints }]) => dataPoints.length > 0)
    assert.deepEqual(told.map(([name]) => name).sort(), [
      'workspace_usage.healthy',
      'workspace_usage.problems',
    ])
    assert.deepEqual(pointsOf(seen.get('workspace_usage.healthy')), [[{}, 0]])
    assert.deepEqual(pointsOf(seen.get('workspace_usage.problems')), [
      [{ code: 'unavailable', severity: 'critical' }, 1],
    ])
  }
  assert.ok(performance.now() - started < 12_000)
  assert.equal(asked, 1)
  stop()
})

test('what is not known any more is told as such, and a problem that is solved as solved', async () => {
  const sdk = collectMetrics()
  const verdicts = [VERDICT, { ...VERDICT, problems: [], ok: true }, null]
  const stop = startObserving(FLUSH_QUEUE, async () => verdicts.shift() ?? Promise.reject(new Error('no')))
  findSdk()
  await sdk.all()
  const solved = await sdk.all()
  assert.deepEqual(pointsOf(solved.get('workspace_usage.problems')), [
    [{ code: 'lag', severity: 'critical' }, 0],
    [{ code: 'silent-source', severity: 'warning', object: 'ssh' }, 0],
  ])
  assert.deepEqual(pointsOf(solved.get('workspace_usage.healthy')), [[{}, 1]])
  const unknown = await sdk.all()
  for (const name of ['lag', 'pending', 'flush.consecutive_failures', 'failed_jobs'])
    for (const [, value] of pointsOf(unknown.get(`workspace_usage.${name}`)))
      assert.equal(value, Number.NaN, name)
  assert.deepEqual(pointsOf(unknown.get('workspace_usage.resets')), [[{}, 2]])
  assert.deepEqual(pointsOf(unknown.get('workspace_usage.flush.last_success')), [[{}, 1_700_000_000.5]])
  assert.deepEqual(
    pointsOf(unknown.get('workspace_usage.problems')).filter(([, value]) => value === 1),
    [[{ code: 'unavailable', severity: 'critical' }, 1]],
  )
  stop()
})

test('a verdict that fails is as none', async () => {
  const sdk = collectMetrics()
  const stop = startObserving(FLUSH_QUEUE, () => Promise.reject(new Error('no')))
  findSdk()
  assert.deepEqual(pointsOf((await sdk.all()).get('workspace_usage.healthy')), [[{}, 0]])
  stop()
})
