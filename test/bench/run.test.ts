import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MEASURES } from '../../bench/measures/list.ts'
import { runProgram } from '../support/process.ts'
import { BUILDING_MEASURES, runSmall, TIMED_MEASURES } from './run-small.ts'

/** These take longer, because they start processes, wait for the clock, or build the package. test/soak/ runs them. */
const SLOW = [...TIMED_MEASURES, ...BUILDING_MEASURES]

test('the measures run over a table of 1,000 workspaces, and fail at nothing', async t => {
  const fast = MEASURES.filter(({ name, long }) => !long && !SLOW.includes(name)).map(({ name }) => name)
  const { code, report } = await runSmall(t, fast)
  assert.equal(code, 0)
  assert.equal(report.judged, false)
  assert.ok(report.notRun.some(({ name }) => name === 'sizing'))
})

test('without pgbench and redis-server on PATH, their measures are skipped with the reason, and the run ends with 0', async t => {
  const { code, report } = await runSmall(t, ['mark', 'wal', 'redis', 'tracker-distinct'], {
    env: { PATH: '/nonexistent' },
  })
  assert.equal(code, 0)
  const [mark, wal, redis, distinct] = report.outcomes
  assert.match(mark!.skipped!, /^no pgbench on PATH/)
  assert.equal(wal!.skipped, undefined)
  assert.match(redis!.skipped!, /^no redis-server on PATH/)
  assert.match(distinct!.result!.skipped!, /^no redis-server on PATH/)
  assert.equal(report.machine.Redis, 'not there')
})

test('an unknown name or a bad number ends with 2, and says what is allowed', async () => {
  const unknown = await runProgram('bench/main.ts', ['flsh'])
  assert.equal(unknown.code, 2)
  assert.match(unknown.stderr, /'flsh' is invalid.*Allowed choices are mark, /)
  const bad = await runProgram('bench/main.ts', ['--workspaces', 'many'])
  assert.equal(bad.code, 2)
  assert.match(bad.stderr, /'many' is invalid. It must be a whole number from 100 to 10,000,000/)
})

test('the list names each measure, and tells which ones take minutes', async () => {
  const { code, stdout } = await runProgram('bench/main.ts', ['--list'])
  assert.equal(code, 0)
  assert.equal(stdout.trim().split('\n').length, MEASURES.length)
  assert.match(stdout, /^sizing .*\(--long\)$/m)
})

test('each measure has a name of its own that can be typed', () => {
  const names = MEASURES.map(({ name }) => name)
  assert.deepEqual([...new Set(names)], names)
  for (const name of names) assert.match(name, /^[a-z]+(-[a-z]+)*$/)
})
