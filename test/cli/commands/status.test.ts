import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { markUsage } from '../../../src/mark/mark.ts'
import { commandLineUrl, runCommand } from '../../support/command-line.ts'
import { createTestDatabase } from '../../support/database.ts'
import { CENTURY, setPeriodLength } from '../../support/period.ts'
import { storeClosedMarks } from '../../support/seed.ts'

const { pool, connectionString } = await createTestDatabase()
const env = { DATABASE_URL: await commandLineUrl(connectionString) }

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
  // A period ends only in the test that sets a shorter one.
  await setPeriodLength(pool, CENTURY)
})

test('status shows no lag while only the open period has marks', async () => {
  await markUsage(pool, [randomUUID(), randomUUID()])
  const { code, stdout } = await runCommand(['status'], { env })
  assert.match(stdout, /^pending {5}2 marks open, 0 closed\nlag {9}0\.0 s\nlast flush {2}\S.*\n$/)
  assert.equal(code, 0)
})

test('status --json shows a lag that grows while marks of a closed period are pending', async () => {
  await storeClosedMarks(pool, [randomUUID()], { agoMs: 60_000 })
  await storeClosedMarks(pool, [randomUUID()], { agoMs: 5_000 })
  const before = JSON.parse((await runCommand(['status', '--json'], { env })).stdout)
  assert.deepEqual(Object.keys(before), ['pending', 'lagSeconds', 'lastFlush'])
  assert.deepEqual(before.pending, { open: 0, closed: 2 })
  assert.ok(before.lagSeconds >= 60 && before.lagSeconds < 600, String(before.lagSeconds))
  const after = JSON.parse((await runCommand(['status', '--json'], { env })).stdout)
  assert.ok(after.lagSeconds > before.lagSeconds)
})

test('status --max-lag ends with 1 if the lag is greater', async () => {
  await storeClosedMarks(pool, [randomUUID()], { agoMs: 3_600_000 })
  const { code, stdout, stderr } = await runCommand(['status', '--max-lag', '60.5'], { env })
  assert.match(stdout, /^pending {5}0 marks open, 1 closed\n/)
  assert.match(
    stderr,
    /^error: the lag is 36\d\d\.\d s, above 60\.5 s\. Does a worker run\? Look at its log\.\n$/,
  )
  assert.equal(code, 1)
  assert.equal((await runCommand(['status', '--max-lag', '7200'], { env })).code, 0)
})

test('status refuses a --max-lag that is negative or no number, on the command line and in its variable', async () => {
  for (const value of ['-1', 'soon', 'Infinity']) {
    const { code, stderr } = await runCommand(['status', `--max-lag=${value}`], { env })
    assert.equal(code, 2)
    assert.equal(
      stderr,
      `error: option '--max-lag <seconds>' argument '${value}' is invalid. ` +
        'Allowed: a number of seconds from 0.\n(--help tells what is allowed)\n',
    )
    const variable = await runCommand(['status'], { env: { ...env, WORKSPACE_USAGE_MAX_LAG: value } })
    assert.equal(variable.code, 2)
    assert.match(
      variable.stderr,
      /from the variable WORKSPACE_USAGE_MAX_LAG is invalid\. Allowed: a number of/,
    )
  }
})
