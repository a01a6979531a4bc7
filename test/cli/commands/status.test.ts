import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { PgBoss } from 'pg-boss'
import type { RefusedWorkspace } from '../../../src/activity/refused.ts'
import { flush } from '../../../src/flush/flush.ts'
import { markUsage } from '../../../src/mark/mark.ts'
import { FLUSH_QUEUE } from '../../../src/worker/queue.ts'
import { commandLineUrl, runCommand } from '../../support/command-line.ts'
import { createTestDatabase } from '../../support/database.ts'
import { CENTURY, setPeriodLength } from '../../support/period.ts'
import { createWorkspaces, storeClosedMarks } from '../../support/seed.ts'

const { pool, connectionString } = await createTestDatabase()
const env = { DATABASE_URL: await commandLineUrl(connectionString) }

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces, refused_usage CASCADE')
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
  assert.deepEqual(Object.keys(before), ['pending', 'lagSeconds', 'lastFlush', 'failing', 'refused'])
  assert.deepEqual(before.pending, { open: 0, closed: 2, held: 0, awaited: 0, refused: 0 })
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

test('status shows a flush by hand as the last flush', async () => {
  await storeClosedMarks(pool, await createWorkspaces(pool, 2))
  await runCommand(['flush'], { env })
  const { lastFlush } = JSON.parse((await runCommand(['status', '--json'], { env })).stdout)
  const { completedAt, ...counts } = lastFlush
  assert.ok(Date.now() - Date.parse(completedAt) < 60_000)
  assert.deepEqual(counts, {
    flushed: 2,
    workspaces: 2,
    updated: 2,
    unknown: 0,
    held: 0,
    awaited: 0,
    refused: 0,
  })
  const { stdout } = await runCommand(['status'], { env })
  assert.match(stdout, /^last flush {2}\d{4}-\S+ \S+Z: 2 marks flushed, 2 workspaces updated, /m)
})

test('status ends with 1 and shows the error while flushes fail, until one succeeds', async () => {
  await flush(pool)
  const boss = new PgBoss({ connectionString, supervise: false, schedule: false })
  boss.on('error', () => {})
  await boss.start()
  const failOnce = async (message: string) => {
    const [job] = await boss.fetch(FLUSH_QUEUE)
    await boss.fail(FLUSH_QUEUE, job!.id, new Error(message))
  }
  try {
    await boss.send(FLUSH_QUEUE, null)
    await failOnce('the first\n\u001b[2Jreason')
    const { code, stdout, stderr } = await runCommand(['status'], { env })
    assert.equal(code, 1)
    assert.match(stdout, /^last flush {2}\d{4}/m)
    const time = '\\d{4}-\\S+ \\S+Z'
    assert.match(
      stderr,
      new RegExp(
        `^error: flushes fail since ${time}, 1 time, the last at ${time}: the first \\\\u\\{1b\\}\\[2Jreason\n$`,
      ),
    )

    await pool.query('UPDATE pgboss.job SET start_after = now() WHERE name = $1', [FLUSH_QUEUE])
    await failOnce('the second reason')
    const json = await runCommand(['status', '--json'], { env })
    const { failing } = JSON.parse(json.stdout)
    assert.deepEqual([json.code, failing.attempts, failing.message], [1, 2, 'the second reason'])
    assert.ok(Date.parse(failing.since) <= Date.parse(failing.lastAt))

    await flush(pool)
    const after = await runCommand(['status', '--json'], { env })
    assert.deepEqual([after.code, JSON.parse(after.stdout).failing], [0, null])
  } finally {
    await boss.stop({ graceful: false })
  }
})

test('status counts what is set aside, and lists the first refused workspaces with the reason', async () => {
  const ids = (await createWorkspaces(pool, 5)).toSorted()
  await pool.query(`ALTER TABLE workspaces ADD CONSTRAINT never CHECK (last_used_at IS NULL) NOT VALID`)
  try {
    await storeClosedMarks(pool, ids)
    await flush(pool)
  } finally {
    await pool.query('ALTER TABLE workspaces DROP CONSTRAINT never')
  }
  const { code, stdout } = await runCommand(['status'], { env })
  assert.equal(code, 0)
  assert.match(stdout, /^pending {5}0 marks open, 5 closed\nset aside {3}5 refused\nlag {9}0\.0 s\n/)
  assert.match(
    stdout,
    /^refused {5}\S{36}: .*"never" \(SQLSTATE 23514\); 1 attempt since \S+ \S+Z, next \S+ \S+Z$/m,
  )
  assert.equal(stdout.match(/^refused/gm)?.length, 3)
  assert.match(stdout, /\n {12}and 2 more\n$/)
  const { refused } = JSON.parse((await runCommand(['status', '--json'], { env })).stdout)
  assert.equal(refused.total, 5)
  assert.deepEqual(refused.workspaces.map(({ workspaceId }: RefusedWorkspace) => workspaceId).toSorted(), ids)
  const { since, nextAttemptAt, ...first } = refused.workspaces[0]
  assert.ok(Date.parse(since) < Date.parse(nextAttemptAt))
  assert.deepEqual([first.attempts, first.sqlState], [1, '23514'])
})
