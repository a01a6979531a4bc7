import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Problem } from '../../src/activity/problem.ts'
import { type HealthSources, healthRoutes, type Verdict } from '../../src/http/health-routes.ts'

const problem = (severity: Problem['severity']): Problem => ({
  code: 'lag',
  severity,
  message: 'The lag is 300 s.',
  remedy: 'Look at the log of the worker.',
  since: new Date(0),
  object: null,
})
const FINE: Verdict = { ok: true, critical: false, problems: [] }
const WARNED: Verdict = { ok: false, critical: false, problems: [problem('warning')] }
const CRITICAL: Verdict = { ok: false, critical: true, problems: [problem('critical')] }

async function ask(path: string, sources: Partial<HealthSources>): Promise<[number, unknown]> {
  const routes = healthRoutes({
    liveness: async () => ({ alive: true, reason: null }),
    verdict: async () => FINE,
    ...sources,
  })
  const response = await routes.request(path)
  return [response.status, await response.json()]
}

const verdict = (answer: Verdict) => ({ verdict: async () => answer })

test('/healthz answers 200 for a worker that is alive, and 503 with the reason for one that is not', async () => {
  const dead = { alive: false, reason: 'the loop that takes flush jobs has ended' }
  assert.deepEqual(await ask('/healthz', {}), [200, { alive: true, reason: null }])
  assert.deepEqual(await ask('/healthz', { liveness: async () => dead }), [503, dead])
})

test('/healthz says why if the question itself fails', async () => {
  const liveness = async () => {
    throw new Error('no life here')
  }
  assert.deepEqual(await ask('/healthz', { liveness }), [503, { alive: false, reason: 'no life here' }])
})

test('/readyz answers 503 for critical problems only, unless it is asked for warnings too', async () => {
  const status = async (path: string, answer: Verdict) => (await ask(path, verdict(answer)))[0]
  for (const path of ['/readyz', '/readyz?severity=critical']) {
    assert.deepEqual(
      [await status(path, FINE), await status(path, WARNED), await status(path, CRITICAL)],
      [200, 200, 503],
    )
  }
  const path = '/readyz?severity=warning'
  assert.deepEqual(
    [await status(path, FINE), await status(path, WARNED), await status(path, CRITICAL)],
    [200, 503, 503],
  )
})

test('the body of /readyz is the whole verdict, with times in ISO 8601', async () => {
  const [, body] = await ask('/readyz', verdict(CRITICAL))
  assert.deepEqual(body, JSON.parse(JSON.stringify(CRITICAL)))
  assert.ok(JSON.stringify(body).includes('"since":"1970-01-01T00:00:00.000Z"'))
})

test('/readyz refuses a severity or a parameter that it does not know, because it would ask less than was meant', async () => {
  assert.deepEqual(await ask('/readyz?severity=nonsense', {}), [
    400,
    { error: 'severity is "nonsense"; allowed: critical, warning.' },
  ])
  assert.deepEqual(await ask('/readyz?severty=warning', {}), [
    400,
    { error: 'no such parameter: "severty"; allowed: severity.' },
  ])
  assert.equal((await ask('/readyz?severity=', {}))[0], 400)
  assert.equal((await ask('/readyz?severity=warning&severity=critical', {}))[0], 400)
})

test('/healthz and /readyz answer 503 in bounded time if they get no answer themselves', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const never = () => new Promise<never>(() => {})
  const asked = [ask('/readyz', { verdict: never }), ask('/healthz', { liveness: never })] as const
  await Promise.resolve()
  t.mock.timers.tick(7_001)
  const [ready, health] = await Promise.all(asked)
  assert.equal(ready[0], 503)
  const { ok, critical, problems } = ready[1] as Verdict
  assert.deepEqual([ok, critical, problems.map(({ code }) => code)], [false, true, ['unavailable']])
  assert.equal(health[0], 503)
})

test('requests that come while a verdict is on its way share it, so that they burden the database once', async () => {
  let asked = 0
  const { promise, resolve } = Promise.withResolvers<Verdict>()
  const routes = healthRoutes({
    liveness: async () => ({ alive: true, reason: null }),
    verdict: () => {
      asked++
      return promise
    },
  })
  const answers = Array.from({ length: 100 }, () => routes.request('/readyz'))
  resolve(FINE)
  assert.ok((await Promise.all(answers)).every(({ status }) => status === 200))
  assert.equal(asked, 1)
  await routes.request('/readyz')
  assert.equal(asked, 2)
})
