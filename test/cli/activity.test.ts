import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { beforeEach, suite, test } from 'node:test'
import { parseDuration } from '../../src/cli/options/duration.ts'
import { formatAge } from '../../src/cli/output/age.ts'
import { printable } from '../../src/cli/output/printable.ts'
import { flush } from '../../src/flush/flush.ts'
import { commandLineUrl, runCommand } from '../support/command-line.ts'
import { createTestDatabase } from '../support/database.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

const role = await createLoginRole(await testServer(), 'stranger')
const database = await createTestDatabase()
const { pool, connectionString } = database
const env = { DATABASE_URL: await commandLineUrl(connectionString) }

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

suite('explain', () => {
  test('shows each source, the newest first, safe for a terminal', async () => {
    const [id] = await createWorkspaces(pool, 1)
    await storeClosedMarks(pool, [id!], { agoMs: 3 * 86_400_000 + 5_000, source: 'web' })
    await flush(pool)
    await storeClosedMarks(pool, [id!], { agoMs: 7_300_000, source: '\u001b[2J"ssh"\n🦊' })
    const { code, stdout, stderr } = await runCommand(['explain', id!.toUpperCase()], { env })
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
    const [first, ...table] = stdout.trimEnd().split('\n')
    const time = '\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\dZ'
    assert.match(first!, new RegExp(`^workspace ${id}: last used 2 h ago, ${time}$`))
    const rows = table.filter(line => line.startsWith('│')).map(line => line.split('│').slice(1, -1))
    assert.deepEqual(
      rows.map(row => row.map(cell => cell.trim().replace(new RegExp(time), 'TIME'))),
      [
        ['source', 'last used', 'ago', 'state'],
        ['\\u{1b}[2J"ssh"\\u{a}🦊', 'TIME', '2 h ago', 'pending'],
        ['web', 'TIME', '3 d ago', 'flushed'],
      ],
    )
  })

  test('--json prints what explainUsage returns', async () => {
    const [id] = await createWorkspaces(pool, 1)
    const at = await storeClosedMarks(pool, [id!], { source: 'a "b"\n' })
    const { code, stdout } = await runCommand(['explain', id!, '--json'], { env })
    const { asOf, ...explanation } = JSON.parse(stdout)
    assert.equal(code, 0)
    assert.ok(Date.parse(asOf) >= at.getTime())
    assert.deepEqual(explanation, {
      workspaceId: id,
      exists: true,
      lastUsedAt: at.toISOString(),
      sources: [{ source: 'a "b"\n', lastUsedAt: at.toISOString(), pending: true }],
    })
  })

  test('says that a workspace was never used, or that it is not on record by what', async () => {
    const [never, unknown] = await createWorkspaces(pool, 2)
    await storeClosedMarks(pool, [unknown!], { agoMs: 60_000 })
    await flush(pool, { sources: false })
    const ofNever = await runCommand(['explain', never!], { env })
    assert.deepEqual(ofNever, { code: 0, stdout: `workspace ${never}: never used\n`, stderr: '' })
    const ofUnknown = await runCommand(['explain', unknown!], { env })
    assert.match(ofUnknown.stdout, /: last used 1 min ago, \S+ \S+Z\nBy which source is not on record\.\n$/)
  })

  test('ends with 1 for a workspace that does not exist, whose marks it shows all the same', async () => {
    const [missing, marked] = [randomUUID(), randomUUID()]
    await storeClosedMarks(pool, [marked], { source: 'ssh' })
    const ofMissing = await runCommand(['explain', missing], { env })
    assert.deepEqual(ofMissing, { code: 1, stdout: '', stderr: `error: no such workspace: ${missing}\n` })
    const ofMarked = await runCommand(['explain', marked], { env })
    assert.equal(ofMarked.code, 1)
    assert.match(ofMarked.stderr, /^error: no such workspace: .*\nIt is being marked all the same/)
    assert.match(ofMarked.stdout, /│ ssh .* pending │/)
    const json = await runCommand(['explain', missing, '--json'], { env })
    assert.deepEqual([json.code, JSON.parse(json.stdout).exists], [1, false])
  })

  test('ends with 2 for what is no id, and names the grant to a role that may not read', async () => {
    const bad = await runCommand(['explain', '42'], { env })
    assert.equal(bad.code, 2)
    assert.match(bad.stderr, /^error: not a UUID: "42"\./)
    const refused = await runCommand(['explain', randomUUID()], {
      env: { DATABASE_URL: role.connectionString(database) },
    })
    assert.equal(refused.code, 1)
    assert.ok(refused.stderr.endsWith(`Run: workspace-usage grant --reader ${role.name}\n`), refused.stderr)
  })
})

suite('idle', () => {
  test('as a table, JSON and CSV: those idle for longest first, never used last', async () => {
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

  test('reads its options from the environment', async () => {
    await createWorkspaces(pool, 3)
    const variables = { WORKSPACE_USAGE_IDLE_FOR: '90m', WORKSPACE_USAGE_IDLE_LIMIT: '2' }
    const { stdout } = await runCommand(['idle'], { env: { ...env, ...variables } })
    assert.match(stdout, /\n2 workspaces\n$/)
  })

  test('ends quietly when whoever reads it has seen enough', async () => {
    await pool.query('INSERT INTO workspaces SELECT FROM generate_series(1, 30000)')
    await pool.query(`UPDATE workspaces SET last_used_at = '2020-01-01'`)
    const child = spawn(process.execPath, ['src/cli/main.ts', 'idle', '--for', '1s', '--csv'], {
      cwd: path.join(import.meta.dirname, '../..'),
      env: { PATH: process.env.PATH, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const stderr = text(child.stderr)
    await once(child.stdout, 'data')
    child.stdout.destroy()
    const [code] = await once(child, 'exit')
    assert.deepEqual([code, await stderr], [0, ''])
  })

  test('wrong options end with 2, and nothing is printed', async () => {
    const cases: [string[], RegExp][] = [
      [['--for', '30'], /"30" is not a duration; allowed: 45s, 90m, 12h, 30d, 2w and the like\./],
      [['--for', '1d', '--limit', '0'], /^error: limit is 0; allowed: an integer from 1\./],
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
})

test('durations are whole numbers of one unit', () => {
  const seconds = {
    '45s': 45,
    '90m': 5_400,
    '12h': 43_200,
    '30d': 2_592_000,
    '2w': 1_209_600,
    ' 1d ': 86_400,
  }
  for (const [text, value] of Object.entries(seconds)) assert.equal(parseDuration(text), value)
  for (const text of ['', '30', 'd', '0d', '-1d', '1.5h', '1D', '1d2h', '1 d', '1M', '9999999999s']) {
    assert.throws(() => parseDuration(text), { message: /is not a duration; allowed: 45s, 90m/ }, text)
  }
})

test('ages are told in the largest unit that fits, rounded down', () => {
  const ages = {
    '0 s': -1,
    '59 s': 59.9,
    '1 min': 60,
    '59 min': 3_599,
    '1 h': 3_600,
    '23 h': 86_399,
    '400 d': 34_560_000,
  }
  for (const [text, seconds] of Object.entries(ages)) assert.equal(formatAge(seconds), text)
})

test('what could move a cursor is shown by its code point, and emoji are left whole', () => {
  const shown = {
    'a\tb\u0007': 'a\\u{9}b\\u{7}',
    '\u202eabc\u2028': '\\u{202e}abc\\u{2028}',
    '🧑‍💻 é': '🧑‍💻 é',
  }
  for (const [text, expected] of Object.entries(shown)) assert.equal(printable(text), expected)
})
