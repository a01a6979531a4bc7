import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { commandLineUrl, runCommand, startCommand } from '../../support/command-line.ts'
import { createTestDatabase } from '../../support/database.ts'
import { createWorkspaces, storeClosedMarks } from '../../support/seed.ts'

const database = await createTestDatabase()
const { pool, connectionString } = database
const env = { DATABASE_URL: await commandLineUrl(connectionString) }

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('idle lists the longest idle first and the never used last, as a table, JSON or CSV', async () => {
  const [never, short, long, used] = await createWorkspaces(pool, 4)
  await pool.query(
    `UPDATE workspaces SET last_used_at = CASE id
      WHEN $1 THEN timestamptz '2020-01-02 03:04:05Z' WHEN $2 THEN '2019-01-02 03:04:05Z' END`,
    [short, long],
  )
  await storeClosedMarks(pool, [used!])
  const list = (...args: string[]) => runCommand(['idle', '--for', '30d', ...args], { env })

  const table = await list()
  assert.deepEqual([table.code, table.stderr], [0, ''])
  assert.deepEqual(table.stdout.replaceAll(/\d+ d\n/g, 'AGE\n').split('\n'), [
    `workspace                             last used             idle for`,
    `${long}  2019-01-02 03:04:05Z  AGE`,
    `${short}  2020-01-02 03:04:05Z  AGE`,
    `${never}  never used`,
    '3 workspaces',
    '',
  ])

  const json = JSON.parse((await list('--json', '--limit', '2')).stdout)
  assert.deepEqual(
    json.map(({ idleSeconds, leftSeconds, ...workspace }: { idleSeconds: number; leftSeconds: number }) => {
      assert.ok(idleSeconds > 6 * 365 * 86_400)
      assert.ok(Math.abs(idleSeconds + leftSeconds - 30 * 86_400) < 0.001)
      return workspace
    }),
    [
      {
        workspaceId: long,
        lastUsedAt: '2019-01-02T03:04:05.000Z',
        createdAt: null,
        usedUntil: null,
        idleSince: '2019-01-02T03:04:05.000Z',
        dueAt: '2019-02-01T03:04:05.000Z',
      },
      {
        workspaceId: short,
        lastUsedAt: '2020-01-02T03:04:05.000Z',
        createdAt: null,
        usedUntil: null,
        idleSince: '2020-01-02T03:04:05.000Z',
        dueAt: '2020-02-01T03:04:05.000Z',
      },
    ],
  )

  const csv = (await list('--csv')).stdout.split('\n')
  assert.equal(
    csv[0],
    'workspace_id,last_used_at,idle_seconds,created_at,used_until,idle_since,due_at,left_seconds',
  )
  const at = '2019-01-02T03:04:05.000Z'
  assert.match(
    csv[1]!,
    new RegExp(`^${long},${at},\\d+(\\.\\d+)?,,,${at},2019-02-01T03:04:05.000Z,-\\d+(\\.\\d+)?$`),
  )
  assert.deepEqual(csv.slice(3), [`${never},,,,,,,`, ''])

  const none = await list('--never-used', 'no', '--json', '--for', '5200w')
  assert.deepEqual(none, { code: 0, stdout: '[]\n', stderr: '' })
})

test('idle --within lists who will be due with the time left, as a table, JSON or CSV', async () => {
  const [due, soon] = await createWorkspaces(pool, 3)
  await pool.query(
    `UPDATE workspaces SET last_used_at =
      now() - CASE id WHEN $1 THEN interval '31 d' WHEN $2 THEN interval '28 d 12 h' ELSE interval '26 d' END`,
    [due, soon],
  )
  const list = (...args: string[]) => runCommand(['idle', '--for', '30d', '--within', '3d', ...args], { env })
  const { code, stdout } = await list()
  assert.equal(code, 0)
  assert.deepEqual(
    stdout.replaceAll(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ/g, 'A TIME OF 20 DIGITS.').split('\n'),
    [
      'workspace                             last used                   idle for  time left',
      `${due}  A TIME OF 20 DIGITS.        31 d      due`,
      `${soon}  A TIME OF 20 DIGITS.        28 d      1 d`,
      '2 workspaces',
      '',
    ],
  )
  const json = JSON.parse((await list('--json')).stdout)
  const left = json.map(({ leftSeconds }: { leftSeconds: number }) => Math.round(leftSeconds / 3_600))
  assert.deepEqual(left, [-24, 36])
  const csv = (await list('--csv')).stdout.split('\n')
  assert.match(csv[1]!, /Z,-86\d{3}(\.\d+)?$/)
  assert.match(csv[2]!, /Z,129\d{3}(\.\d+)?$/)
})

test('idle --count tells how many a policy would find now, in a day and in a week, as text or JSON', async () => {
  const [due, soon] = await createWorkspaces(pool, 3)
  await pool.query(
    `UPDATE workspaces SET last_used_at = now() - CASE id WHEN $1 THEN interval '8 d' ELSE interval '6 d 1 h' END
    WHERE id IN ($1, $2)`,
    [due, soon],
  )
  const text = await runCommand(['idle', '--for', '1w', '--count'], { env })
  assert.deepEqual(text, {
    code: 0,
    stderr: '',
    stdout: [
      'of 3 workspaces:',
      '  1  due now: not used for 1w',
      '  2  due in a day, if not used until then',
      '  2  due in a week, if not used until then',
      '  0  in use now, or within the last 5 minutes',
      '  1  never used, created at an unknown time',
      '',
    ].join('\n'),
  })
  const { asOf, ...counts } = JSON.parse(
    (await runCommand(['idle', '--for', '7d', '--count', '--json'], { env })).stdout,
  )
  assert.deepEqual(counts, { workspaces: 3, due: 1, dueInDay: 2, dueInWeek: 2, neverUsed: 1, inUse: 0 })
  assert.match(asOf, /^\d{4}-.*Z$/)
})

test('idle warns on standard error if marks of the time that it lists were lost, and prints the same list', async () => {
  const before = await runCommand(['idle', '--for', '2h', '--json'], { env })
  await pool.query(`INSERT INTO pending_usage_reset (noticed_at) VALUES (now() - interval '3 h')`)
  assert.deepEqual(await runCommand(['idle', '--for', '2h', '--json'], { env }), before)
  await pool.query(`INSERT INTO pending_usage_reset (noticed_at) VALUES (now() - interval '1 h')`)
  const { stderr, ...told } = await runCommand(['idle', '--for', '2h', '--json'], { env })
  assert.deepEqual({ ...told, stderr: '' }, before)
  assert.match(
    stderr,
    /^warning: marks were lost; use is complete since \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ\. What was used/,
  )
  await pool.query('DELETE FROM pending_usage_reset')
})

test('idle reads its options from the environment', async () => {
  await createWorkspaces(pool, 3)
  const variables = { WORKSPACE_USAGE_IDLE_FOR: '90m', WORKSPACE_USAGE_IDLE_LIMIT: '2' }
  const { stdout } = await runCommand(['idle'], { env: { ...env, ...variables } })
  assert.match(stdout, /\n2 workspaces\n$/)
})

test('idle stops reading the database when its output is closed, and ends with 0', async () => {
  await pool.query('INSERT INTO workspaces SELECT FROM generate_series(1, 30000)')
  await pool.query(`UPDATE workspaces SET last_used_at = '2020-01-01'`)
  const command = startCommand(['idle', '--for', '1s', '--csv'], { env })
  command.stdout.once('pipe', () => command.stdout.destroy(brokenPipe()))
  const { code, stdout, stderr } = await command.ended
  assert.deepEqual([code, stderr], [0, ''])
  assert.ok(stdout.split('\n').length < 30_000)
})

test('idle ends with 2 on wrong options, and prints nothing', async () => {
  const cases: [string[], RegExp][] = [
    [
      ['--for', '30'],
      /^error: option '--for <duration>' argument '30' is invalid\. Allowed: a whole number and a unit, such as 45s, /,
    ],
    [['--for', '5300w'], /'--for <duration>' argument '5300w' is invalid\. Allowed: 1s to 36600d\./],
    [
      ['--for', '1d', '--limit', '0'],
      /^error: option '--limit <n>' argument '0' is invalid\. Allowed: an integer from 1\./,
    ],
    [['--for', '1d', '--never-used', 'maybe'], /argument 'maybe' is invalid\. Allowed: yes, no\./],
    [['--within', '3d'], /required option '--for <duration>' not specified/],
    [['--count'], /required option '--for <duration>' not specified/],
    [
      ['--for', '1d', '--within', '-3d'],
      /'--within <duration>' argument '-3d' is invalid\. Allowed: a whole/,
    ],
    [
      ['--for', '1d', '--within', 'NaN'],
      /'--within <duration>' argument 'NaN' is invalid\. Allowed: a whole/,
    ],
    [['--for', '1d', '--within', '5300w'], /argument '5300w' is invalid\. Allowed: 1s to 36600d\./],
    [
      ['--for', '1d', '--within', '1d', '--count'],
      /'--count' cannot be used with option '--within <duration>'/,
    ],
    [['--for', '1d', '--count', '--limit', '1'], /'--count' cannot be used with option '--limit <n>'/],
    [['--for', '1d', '--count', '--csv'], /'--count' cannot be used with option '--csv'/],
    [['--for', '1d', '--json', '--csv'], /'--json' cannot be used with option '--csv'/],
  ]
  await Promise.all(
    cases.map(async ([args, message]) => {
      const { code, stdout, stderr } = await runCommand(['idle', ...args], { env })
      assert.deepEqual([code, stdout], [2, ''], stderr)
      assert.match(stderr, message)
    }),
  )
})

function brokenPipe(): Error {
  return Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })
}
