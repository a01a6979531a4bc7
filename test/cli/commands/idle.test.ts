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
    json.map(({ idleSeconds, ...workspace }: { idleSeconds: number }) => {
      assert.ok(idleSeconds > 6 * 365 * 86_400)
      return workspace
    }),
    [
      { workspaceId: long, lastUsedAt: '2019-01-02T03:04:05.000Z' },
      { workspaceId: short, lastUsedAt: '2020-01-02T03:04:05.000Z' },
    ],
  )

  const csv = (await list('--csv')).stdout.split('\n')
  assert.equal(csv[0], 'workspace_id,last_used_at,idle_seconds')
  assert.match(csv[1]!, new RegExp(`^${long},2019-01-02T03:04:05.000Z,\\d+(\\.\\d+)?$`))
  assert.deepEqual(csv.slice(3), [`${never},,`, ''])

  const none = await list('--never-used', 'no', '--json', '--for', '5200w')
  assert.deepEqual(none, { code: 0, stdout: '[]\n', stderr: '' })
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
