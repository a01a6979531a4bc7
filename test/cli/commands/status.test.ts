import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { PgBoss } from 'pg-boss'
import type { RefusedWorkspace } from '../../../src/activity/refused.ts'
import { flush } from '../../../src/flush/flush.ts'
import { markUsage } from '../../../src/mark/mark.ts'
import { FLUSH_QUEUE } from '../../../src/worker/queue.ts'
import { commandLineUrl, runCommand } from '../../support/command-line.ts'
import { createEmptyDatabase, createTestDatabase } from '../../support/database.ts'
import { CENTURY, setPeriodLength } from '../../support/period.ts'
import { createLoginRole } from '../../support/roles.ts'
import { createWorkspaces, storeClosedMarks } from '../../support/seed.ts'
import { testServer } from '../../support/test-server.ts'

const stranger = await createLoginRole(await testServer(), 'stranger')
const database = await createTestDatabase()
const { pool, connectionString } = database
const env = { DATABASE_URL: await commandLineUrl(connectionString) }

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces, refused_usage CASCADE')
  // A period ends only in the test that sets a shorter one.
  await setPeriodLength(pool, CENTURY)
})

test('status shows no lag while only the open period has marks', async () => {
  await markUsage(pool, [randomUUID(), randomUUID()])
  const { code, stdout } = await runCommand(['status'], { env })
  assert.match(stdout, /^pending {5}2 marks open, 0 closed\nlag {9}0\.0 s\nlast flush {2}\S.*\nhealth {6}\S/)
  assert.equal(code, 0)
})

test('status --json shows a lag that grows while marks of a closed period are pending', async () => {
  await storeClosedMarks(pool, [randomUUID()], { agoMs: 60_000 })
  await storeClosedMarks(pool, [randomUUID()], { agoMs: 5_000 })
  const before = JSON.parse((await runCommand(['status', '--json'], { env })).stdout)
  assert.deepEqual(Object.keys(before), [
    'pending',
    'lagSeconds',
    'lastFlush',
    'failing',
    'refused',
    'workspaces',
    'completeSince',
    'lastResetReason',
    'health',
  ])
  assert.deepEqual([before.completeSince, before.lastResetReason], [null, null])
  assert.deepEqual(before.pending, { open: 0, closed: 2, held: 0, awaited: 0, refused: 0, until: 0 })
  assert.ok(before.lagSeconds >= 60 && before.lagSeconds < 600, String(before.lagSeconds))
  const after = JSON.parse((await runCommand(['status', '--json'], { env })).stdout)
  assert.ok(after.lagSeconds > before.lagSeconds)
})

test('status tells from when on use is complete, and why it was not before, as long as a loss is on record', async () => {
  await pool.query(`INSERT INTO pending_usage_reset (noticed_at, flushed_until, reason)
    VALUES ('2026-03-01 12:00:00Z', '2026-03-01 11:58:00Z', 'promotion')`)
  try {
    const { stdout } = await runCommand(['status'], { env })
    assert.match(
      stdout,
      /^complete {4}since 2026-03-01 12:00:00Z; marks were lost before, by the promotion of a standby/m,
    )
    const json = JSON.parse((await runCommand(['status', '--json'], { env })).stdout)
    assert.deepEqual([json.completeSince, json.lastResetReason], ['2026-03-01T12:00:00.000Z', 'promotion'])
  } finally {
    await pool.query('DELETE FROM pending_usage_reset')
  }
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

test('status --check is silent and ends with 0 if nothing is wrong, and status says that the health is ok', async () => {
  await flush(pool)
  for (const args of [['--check'], ['--check', 'warning'], ['--check', 'critical'], ['--check', '--json']]) {
    const { code, stderr } = await runCommand(['status', ...args], { env })
    assert.deepEqual([code, stderr], [0, ''], args.join(' '))
  }
  assert.match((await runCommand(['status'], { env })).stdout, /^health {6}ok$/m)
})

test('status --check ends with 1 and prints a line for each problem, with what is wrong and what to do', async () => {
  await flush(pool)
  await storeClosedMarks(pool, await createWorkspaces(pool, 1), { agoMs: 600_000 })
  for (const [args, variables] of [
    [['--check'], {}],
    [[], { WORKSPACE_USAGE_CHECK: 'critical' }],
  ] as const) {
    const { code, stdout, stderr } = await runCommand(['status', ...args], { env: { ...env, ...variables } })
    assert.equal(code, 1)
    assert.match(stderr, /^lag: .*60\d.*\. \S.*\.\n$/)
    assert.match(stdout, /^health {6}critical: lag: /m)
  }
  const json = await runCommand(['status', '--check', '--json'], { env })
  assert.equal(json.code, 1)
  assert.match(json.stderr, /^lag: /)
  const { health } = JSON.parse(json.stdout)
  assert.deepEqual([health.ok, health.critical, health.problems[0].code], [false, true, 'lag'])
  const patient = await runCommand(['status', '--check', '--max-lag', '3600'], { env })
  assert.deepEqual([patient.code, patient.stderr], [0, ''])
  const plain = await runCommand(['status'], { env })
  assert.deepEqual([plain.code, plain.stderr], [0, ''])
})

test('status --check critical does not fail for a warning, and a warning that is meant can be switched off', async () => {
  await flush(pool)
  await pool.query('ALTER TABLE pending_usage SET LOGGED')
  try {
    const any = await runCommand(['status', '--check'], { env })
    assert.equal(any.code, 1)
    assert.match(any.stderr, /^logged-marks: .*\n$/)
    const critical = await runCommand(['status', '--check', 'critical'], { env })
    assert.deepEqual([critical.code, critical.stderr], [0, ''])
    const meant = await runCommand(['status', '--check', '--logged-marks'], { env })
    assert.deepEqual([meant.code, meant.stderr], [0, ''])
  } finally {
    await pool.query('ALTER TABLE pending_usage SET UNLOGGED')
  }
})

test('status --check ends with 1 and one line if the database gives no verdict', async () => {
  const empty = await createEmptyDatabase()
  for (const DATABASE_URL of [empty.connectionString, 'postgres://127.0.0.1:1/nowhere']) {
    const { code, stdout, stderr } = await runCommand(['status', '--check'], { env: { DATABASE_URL } })
    assert.equal(code, 1)
    assert.match(stderr, /^unavailable: .*\n$/)
    assert.match(stdout, /^health {6}critical: unavailable: .*\n$/)
    const json = JSON.parse(
      (await runCommand(['status', '--check', '--json'], { env: { DATABASE_URL } })).stdout,
    )
    assert.deepEqual([json.pending, json.health.critical], [null, true])
  }
})

test('status of a role without the rights names the command that grants them, with and without --check', async () => {
  for (const check of [[], ['--check']]) {
    const { code, stderr } = await runCommand(['status', ...check], {
      env: { DATABASE_URL: stranger.connectionString(database) },
    })
    assert.equal(code, 1)
    assert.match(stderr, /permission denied.* Run: workspace-usage grant --worker .*\n$/)
  }
})

test('status --check of a severity that does not exist is wrong usage', async () => {
  const { code, stderr } = await runCommand(['status', '--check', 'note'], { env })
  assert.equal(code, 2)
  assert.match(stderr, /argument 'note' is invalid\. Allowed choices are warning, critical\./)
})
