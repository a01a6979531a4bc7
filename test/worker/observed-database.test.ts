import assert from 'node:assert/strict'
import { test } from 'node:test'
import { migrate } from '../../src/schema/migrate.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { startWorker } from '../support/flush-worker.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { startWaitingJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { collectMetrics, pointsOf } from '../support/metrics.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

testOnBothVersions(
  'two workers in one process tell the lag, the failures and the resets of their database once',
  async (database, t) => {
    const { pool, connectionString } = database
    await migrate({ connectionString })
    await pool.query('ALTER TABLE workspace_usage_day RENAME TO workspace_usage_elsewhere')
    await pool.query('TRUNCATE pending_usage, pending_usage_witness')
    const ids = await createWorkspaces(pool, 3)
    await storeClosedMarks(pool, ids, { agoMs: 200_000 })
    const metrics = collectMetrics()
    t.after(() => metrics.unregister())
    const value = async (name: string) => {
      const points = pointsOf((await metrics.all()).get(`workspace_usage.${name}`))
      assert.ok(points.length <= 1, `${name} has one point at most`)
      return points[0]?.[1] as number | undefined
    }
    const log = collectLog()
    await using _one = await startWorker(database, log, { flushIntervalSeconds: 1 })
    await using _other = await startWorker(database, log, { flushIntervalSeconds: 1 })
    await until('the failures are told', async () => ((await value('flush.consecutive_failures')) ?? 0) > 0)
    const lag = (await value('lag'))!
    assert.ok(lag >= 200 && lag < 260, `${lag} s`)
    assert.equal(await value('healthy'), 0)
    assert.equal(await value('flush.last_success'), undefined)
    const all = await metrics.all()
    assert.deepEqual(pointsOf(all.get('workspace_usage.pending')), [
      [{ state: 'open' }, 0],
      [{ state: 'closed' }, 3],
      [{ state: 'held' }, 0],
      [{ state: 'awaited' }, 0],
      [{ state: 'refused' }, 0],
      [{ state: 'until' }, 0],
    ])
    const codes = pointsOf(all.get('workspace_usage.problems')).map(([{ code }]) => code)
    assert.ok(codes.includes('lag') && codes.includes('flushes-fail'), codes.join())

    await pool.query('ALTER TABLE workspace_usage_elsewhere RENAME TO workspace_usage_day')
    await until('the lag is gone', async () => {
      await startWaitingJobs(pool)
      return (await value('lag')) === 0
    })
    assert.equal(await value('flush.consecutive_failures'), 0)
    assert.equal(await value('resets'), 1)
    const problems = pointsOf((await metrics.all()).get('workspace_usage.problems'))
    const now = Object.fromEntries(problems.map(([{ code }, is]) => [code, is]))
    assert.deepEqual([now.lag, now['flushes-fail']], [0, 0], 'problems that are solved are told as solved')
    const lastSuccess = (await value('flush.last_success'))!
    assert.ok(Math.abs(lastSuccess - Date.now() / 1_000) < 60)
  },
)

test('while the database is silent, the metrics tell in time that it is unavailable, and no old lag', async t => {
  const database = await createTestDatabase()
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const metrics = collectMetrics()
  t.after(() => metrics.unregister())
  const log = collectLog()
  await using _worker = await startFlushWorker({
    database: proxy.connectionString,
    logger: log.logger,
    flushTimeoutSeconds: 0.1,
    flushIntervalSeconds: 3_600,
  })
  await until('a flush', () => log.find('nothing to flush').length === 1)
  assert.ok(pointsOf((await metrics.all()).get('workspace_usage.lag')).length === 1)
  proxy.silence('silent')
  const asked = performance.now()
  const seen = await metrics.all()
  assert.ok(performance.now() - asked < 6_500)
  assert.deepEqual(pointsOf(seen.get('workspace_usage.healthy')), [[{}, 0]])
  assert.deepEqual(pointsOf(seen.get('workspace_usage.problems')), [
    [{ code: 'unavailable', severity: 'critical' }, 1],
  ])
  assert.deepEqual(pointsOf(seen.get('workspace_usage.lag')), [[{}, Number.NaN]])
  proxy.heal()
  await until(
    'the lag is told again',
    async () => pointsOf((await metrics.all()).get('workspace_usage.lag'))[0]![1] === 0,
    { timeoutMs: 30_000 },
  )
})
