import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { commandLineUrl, runCommand, startCommand } from '../../support/command-line.ts'
import { createTestDatabase } from '../../support/database.ts'
import { CENTURY, setPeriodLength } from '../../support/period.ts'
import { until } from '../../support/poll.ts'
import { createWorkspaces, pendingCount } from '../../support/seed.ts'

const database = await createTestDatabase()
const { pool, connectionString } = database
const env = { DATABASE_URL: await commandLineUrl(connectionString) }

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
  // A period ends only in the test that sets a shorter one.
  await setPeriodLength(pool, CENTURY)
})

const [one, two] = [randomUUID(), randomUUID()]

test('mark marks the ids in its arguments with the source that --source names', async () => {
  const result = await runCommand(['mark', one, two, one.toUpperCase(), '--source', 'ssh'], { env })
  assert.deepEqual(result, {
    code: 0,
    stdout: 'marked 2 workspaces, 2 for the first time in this period\n',
    stderr: '',
  })
  assert.deepEqual(await pendingSources(), ['ssh'])
  assert.equal(await pendingCount(pool), 2)
})

test('mark stores nothing if one of its arguments is no id', async () => {
  const { code, stderr } = await runCommand(['mark', one, '42'], { env })
  assert.equal(code, 2)
  assert.match(stderr, /^error: not a UUID: "42"\. /)
  assert.equal(await pendingCount(pool), 0)
})

test('mark uses the source workspace-usage unless an option or a variable names another', async () => {
  await runCommand(['mark', one, '--database-url', env.DATABASE_URL], { env: { DATABASE_URL: 'overridden' } })
  assert.deepEqual(await pendingSources(), ['workspace-usage'])
  const { stdout } = await runCommand(['mark', one], {
    env: { ...env, WORKSPACE_USAGE_SOURCE: 'cron', WORKSPACE_USAGE_JSON: '1' },
  })
  assert.deepEqual(JSON.parse(stdout), { marked: 1, stored: 1, invalid: 0 })
  assert.deepEqual(await pendingSources(), ['cron', 'workspace-usage'])
})

test('mark reads ids from standard input in batches, and a bad line costs no other line', async () => {
  const ids = Array.from({ length: 10_001 }, () => randomUUID())
  const input = ['', ...ids, '  ', 'not-an-id', ` ${one}\r`, `${two}0`].join('\n')

  const { code, stdout, stderr } = await runCommand(['mark', '--json'], { env, input })

  assert.deepEqual(JSON.parse(stdout), { marked: 10_002, stored: 10_002, invalid: 2 })
  assert.match(
    stderr,
    /^line 10004: not a UUID: "not-an-id"\. .*\nline 10006: not a UUID: "[0-9a-f-]+"\. .*\n$/,
  )
  assert.equal(code, 2)
  const { rows } = await pool.query('SELECT FROM pending_usage GROUP BY xmin::text')
  assert.equal(rows.length, 2, 'transactions')
})

test('mark that gets a signal in the middle reports what it has stored, and ends with the code of the signal', async () => {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    await pool.query('TRUNCATE pending_usage')
    const command = startCommand(['mark'], { env })
    for (const id of uuids(10_005)) command.stdin.write(`${id}\n`)
    await until('the first batch is stored', async () => (await pendingCount(pool)) === 10_000)
    command.emit(signal, signal)
    assert.deepEqual(await command.ended, {
      code,
      stdout: 'marked 10000 workspaces, 10000 for the first time in this period\n',
      stderr: `ended by ${signal}: only these are stored\n`,
    })
    assert.equal(await pendingCount(pool), 10_000)
    assert.equal(command.listenerCount(signal), 0)
  }
})

test('mark that gets a signal finishes its current batch first', async () => {
  const obstacle = await database.connect()
  await obstacle.query('BEGIN; LOCK TABLE pending_usage')
  const command = startCommand(['mark', '--json'], { env })
  for (const id of uuids(10_000)) command.stdin.write(`${id}\n`)
  await untilLockWaited()
  command.emit('SIGTERM', 'SIGTERM')
  await obstacle.query('ROLLBACK')
  const { code, stdout } = await command.ended
  assert.deepEqual([code, JSON.parse(stdout)], [143, { marked: 10_000, stored: 10_000, invalid: 0 }])
  assert.equal(await pendingCount(pool), 10_000)
})

test('mark that fails in the middle reports what it has stored before', async () => {
  await pool.query(`
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON pending_usage FOR EACH ROW
      WHEN (new.workspace_id = '${one}') EXECUTE FUNCTION refuse()`)
  const { code, stdout, stderr } = await runCommand(['mark'], {
    env,
    input: [...uuids(10_000), one].join('\n'),
  })
  await pool.query('DROP FUNCTION refuse CASCADE')
  assert.deepEqual([code, stdout], [1, ''])
  assert.equal(
    stderr,
    'marked 10000 workspaces, 10000 for the first time in this period, before it failed\n' +
      'error: the database refused: no more (SQLSTATE P0001), in: PL/pgSQL function refuse() line 1 at RAISE\n',
  )
})

test('mark says that it reads ids if its standard input is a terminal', async () => {
  const { stdout, stderr } = await runCommand(['mark'], { env, input: `${one}\n`, terminal: true })
  assert.equal(stdout, 'marked 1 workspace, 1 for the first time in this period\n')
  assert.equal(stderr, 'reading workspace ids from the terminal, one per line; end with Ctrl-D\n')
})

function uuids(count: number): string[] {
  return Array.from({ length: count }, () => randomUUID())
}

async function untilLockWaited(): Promise<void> {
  await until('the INSERT waits', async () => {
    const { rows } = await pool.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    )
    return rows.length
  })
}

async function pendingSources(): Promise<string[]> {
  const { rows } = await pool.query('SELECT DISTINCT source FROM pending_usage ORDER BY source')
  return rows.map(({ source }) => source)
}

test('mark --for and --until keep workspaces in use, and --end ends that', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const marked = await runCommand(['mark', id!, '--for', '2h', '--source', 'build'], { env })
  assert.deepEqual([marked.code, marked.stderr], [0, ''])
  assert.match(
    marked.stdout,
    /^marked 1 workspace, in use until \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ: a pending mark, so a crash of the server ends it/,
  )
  const until = new Date(Date.now() + 10_800_000).toISOString()
  const longer = await runCommand(['mark', '--until', until, '--source', 'build', '--json'], {
    env,
    input: `${id}\n`,
  })
  assert.deepEqual(JSON.parse(longer.stdout), { marked: 1, stored: 1, until, invalid: 0 })
  const nothing = await runCommand(['mark', id!, '--end', '--source', 'train'], { env })
  assert.deepEqual(nothing, { code: 0, stdout: 'ended 0 uses until a time ahead\n', stderr: '' })
  const ended = await runCommand(['mark', '--end', '--every-source'], { env, input: `${id}\nwrong\n` })
  assert.deepEqual([ended.code, ended.stdout], [2, 'ended 1 use until a time ahead\n'])
})

test('mark refuses a time that is not allowed, and options that do not fit together', async () => {
  const id = '1b4e28ba-2fa1-41d2-883f-0016d3cca427'
  const cases: [string[], number, RegExp][] = [
    [['--for', '25h'], 2, /can't be in use until .*Allowed: after now, and not after/],
    [['--until', '2020-01-01T00:00Z'], 2, /can't be in use until 2020-01-01T00:00:00.000Z/],
    [['--for', '2'], 2, /Allowed: a whole number and a unit/],
    [['--until', 'tomorrow'], 2, /Allowed: a date, time and time zone/],
    [['--until', '2030-01-01T00:00'], 2, /Allowed: a date, time and time zone/],
    [['--for', '1h', '--until', '2030-01-01T00:00Z'], 2, /cannot be used with/],
    [['--end', '--for', '1h'], 2, /cannot be used with/],
    [['--every-source'], 2, /--every-source needs --end/],
    [['--end', '--every-source', '--source', 'x'], 2, /nothing with everySource/],
  ]
  for (const [args, code, pattern] of cases) {
    const ended = await runCommand(['mark', id, ...args], { env })
    assert.deepEqual([ended.code, ended.stdout], [code, ''], args.join(' '))
    assert.match(ended.stderr, pattern)
  }
})
