import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MEASURES } from '../../bench/measures/list.ts'
import { runProgram } from '../support/process.ts'
import { testServer } from '../support/test-server.ts'

/** These build the package, or wait for the clock. */
const SLOW = ['import', 'command-line', 'tracker-period']

test('every measure runs over a table of 1,000 workspaces, and fails at nothing', async t => {
  const names = MEASURES.filter(({ long }) => !long).map(({ name }) => name)
  const fast = names.filter(name => !SLOW.includes(name))
  const { code, stdout, stderr } = await runProgram(
    'bench/main.ts',
    ['--workspaces', '1000', '--json', ...fast],
    {
      env: { DATABASE_URL: await testServer() },
      timeoutMs: 100_000,
    },
  )
  t.diagnostic(stderr)
  const { outcomes, judged, notRun } = JSON.parse(stdout)
  assert.deepEqual(
    outcomes.filter(({ failed }: { failed?: string }) => failed !== undefined),
    [],
  )
  assert.equal(code, 0)
  assert.equal(judged, false)
  assert.deepEqual(
    outcomes.map(({ name }: { name: string }) => name),
    fast,
  )
  assert.ok(notRun.some(({ name }: { name: string }) => name === 'sizing'))
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
