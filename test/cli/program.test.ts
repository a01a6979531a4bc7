import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { commandLineUrl, runCommand } from '../support/command-line.ts'
import { createTestDatabase } from '../support/database.ts'

const ID = randomUUID()
/** Nothing listens on this port. */
const UNREACHABLE = await commandLineUrl('postgres://127.0.0.1:1/nowhere')
const NEEDS_DATABASE =
  "error: required option '-d, --database-url <url>' not specified. Give it, or set the variable DATABASE_URL, or " +
  "PostgreSQL's own PGHOST or PGDATABASE (with PGPORT, PGUSER, PGPASSWORD)"

test('workspace-usage --help lists every command, and no option of a command', async () => {
  const { code, stdout, stderr } = await runCommand(['--help'])
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  assert.match(stdout, /Exit codes: 0 success, 1 failure, 2 wrong usage/)
  const commands = [...stdout.matchAll(/^ {2}([a-z]+)(?: [<[]\S+)* {2}/gm)].map(([, name]) => name)
  assert.deepEqual(commands, [...COMMANDS, 'help'])
  assert.doesNotMatch(stdout, /--database-url/)
})

test('the --help of each command names a variable for every option except the destructive ones', async () => {
  for (const name of COMMANDS) {
    const { code, stdout, stderr } = await runCommand([name, '--help'])
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
    const options = [...stdout.matchAll(/^ {2}(?:-\w, )?--([a-z-]+)/gm)].map(([, option]) => option!)
    const variables = stdout.match(/env:\s+(DATABASE_URL|WORKSPACE_USAGE_|PGBOSS_DASHBOARD_AUTH_)/g) ?? []
    const without = options.filter(option => ['help', ...(DESTRUCTIVE[name] ?? [])].includes(option))
    assert.equal(variables.length, options.length - without.length, stdout)
    assert.deepEqual(await runCommand(['help', name]), { code, stdout, stderr })
  }
})

const COMMANDS = [
  ...[
    'migrate',
    'worker',
    'mark',
    'import',
    'flush',
    'status',
    'doctor',
    'sources',
    'explain',
    'idle',
    'reap',
    'period',
    'grant',
    'revoke',
  ],
]
// A variable that somebody has forgotten must neither remove nor rewrite tables.
const DESTRUCTIVE: Record<string, string[]> = {
  migrate: ['down', 'all', 'yes', 'logged', 'unlogged', 'citus'],
  reap: ['run', 'yes', 'again'],
}

const hint = '(--help tells what is allowed)'
const cases: { args: string[]; env?: Record<string, string>; stderr: string | RegExp }[] = [
  { args: [], stderr: /^Usage: workspace-usage / },
  { args: ['flsh'], stderr: `error: unknown command 'flsh'\n(Did you mean flush?)\n${hint}\n` },
  {
    args: ['flush', '--bath-size=1'],
    env: { DATABASE_URL: UNREACHABLE },
    stderr: `error: unknown option '--bath-size=1'\n(Did you mean --batch-size?)\n${hint}\n`,
  },
  {
    args: ['status'],
    stderr: `${NEEDS_DATABASE}\n${hint}\n`,
  },
  {
    args: ['status'],
    env: { DATABASE_URL: '' },
    stderr: `${NEEDS_DATABASE}\n${hint}\n`,
  },
  {
    // commander repeats a misplaced argument in its error.
    args: ['status', 'postgres://somebody:secret@127.0.0.1/x'],
    env: { DATABASE_URL: UNREACHABLE },
    stderr: /^error: .* got 1(: postgres:\/\/somebody:\*\*\*@127.0.0.1\/x)?\.\n/,
  },
  {
    args: ['postgres://somebody:secret@127.0.0.1/x'],
    stderr: /^error: unknown command 'postgres:\/\/somebody:\*\*\*@127.0.0.1\/x'\n/,
  },
  {
    args: ['mark', ID, '--source', ''],
    env: { DATABASE_URL: UNREACHABLE },
    stderr:
      "error: option '--source <name>' argument '' is invalid. " +
      `Allowed: a text of 1 to 63 characters without NUL.\n${hint}\n`,
  },
  {
    args: ['flush', '--batch-size', '2k'],
    env: { DATABASE_URL: UNREACHABLE },
    stderr:
      "error: option '--batch-size <marks>' argument '2k' is invalid. " +
      `Allowed: an integer from 1 to 100000.\n${hint}\n`,
  },
  {
    args: ['flush', '--batch-size', '0'],
    env: { DATABASE_URL: UNREACHABLE },
    stderr:
      "error: option '--batch-size <marks>' argument '0' is invalid. " +
      `Allowed: an integer from 1 to 100000.\n${hint}\n`,
  },
  {
    args: ['flush', '--sources', 'maybe'],
    env: { DATABASE_URL: UNREACHABLE },
    stderr: `error: option '--sources <yes|no>' argument 'maybe' is invalid. Allowed: yes, no.\n${hint}\n`,
  },
  {
    args: ['worker'],
    env: { DATABASE_URL: UNREACHABLE, WORKSPACE_USAGE_FLUSH_INTERVAL: '90' },
    stderr:
      "error: option '--flush-interval <seconds>' value '90' from the variable WORKSPACE_USAGE_FLUSH_INTERVAL " +
      'is invalid. Allowed: 1 to 59 seconds, or whole minutes that divide an hour: ' +
      `60, 120, 180, 240, 300, 360, 600, 720, 900, 1200, 1800, 3600 seconds.\n${hint}\n`,
  },
  {
    args: ['worker', '--flush-interval', '0'],
    env: { DATABASE_URL: UNREACHABLE },
    stderr:
      /^error: option '--flush-interval <seconds>' argument '0' is invalid\. Allowed: 1 to 59 seconds, or whole minutes /,
  },
  {
    args: ['worker'],
    env: { DATABASE_URL: UNREACHABLE, WORKSPACE_USAGE_FLUSH_TIMEOUT: '26' },
    stderr:
      "error: option '--flush-timeout <seconds>' value '26' from the variable WORKSPACE_USAGE_FLUSH_TIMEOUT " +
      `is invalid. Allowed: 0.1 to 25 seconds.\n${hint}\n`,
  },
  {
    args: ['worker', '--log-level', 'loud'],
    env: { DATABASE_URL: UNREACHABLE },
    stderr:
      "error: option '--log-level <level>' argument 'loud' is invalid. " +
      `Allowed choices are debug, info, warn, error.\n${hint}\n`,
  },
  {
    args: ['status'],
    env: { DATABASE_URL: UNREACHABLE.replace(':1/', ':one/') },
    stderr:
      "error: option '-d, --database-url <url>' (env: DATABASE_URL) is invalid. It is not shown, because it may hold " +
      `a password. Allowed: a port from 1 to 65535.\n${hint}\n`,
  },
]
for (const { args, env = {}, stderr } of cases) {
  const given = Object.entries(env).map(([name, value]) => `${name}=${value && '…'} `)
  test(`wrong usage ends with 2 before anything is sent: ${given.join('')}workspace-usage ${args.join(' ').replace(ID, '<id>')}`, async () => {
    const result = await runCommand(args, { env })
    if (typeof stderr === 'string') assert.equal(result.stderr, stderr)
    else assert.match(result.stderr, stderr)
    assert.equal(result.stdout, '')
    assert.equal(result.code, 2)
  })
}

test('an option on the command line wins over variables, even over the variable of an option that excludes it', async () => {
  const env = { DATABASE_URL: UNREACHABLE, WORKSPACE_USAGE_CSV: '1', WORKSPACE_USAGE_IDLE_LIMIT: 'many' }
  // It tries to connect, so neither the bad limit nor CSV has stopped it.
  const { code, stderr } = await runCommand(['idle', '--for', '1d', '--limit', '5', '--json'], { env })
  assert.equal(code, 1)
  assert.match(stderr, /^error: can't reach the database/)
})

test('two variables that exclude each other are refused, and the error names both', async () => {
  const env = { DATABASE_URL: UNREACHABLE, WORKSPACE_USAGE_CSV: '1', WORKSPACE_USAGE_JSON: '1' }
  const { code, stderr } = await runCommand(['idle', '--for', '1d'], { env })
  assert.equal(code, 2)
  assert.match(
    stderr,
    /^error: the variables WORKSPACE_USAGE_JSON and WORKSPACE_USAGE_CSV can't both be set\n/,
  )
})

test('only main.ts of the command line uses process or console', () => {
  const root = path.join(import.meta.dirname, '../../src/cli')
  const files = globSync('**/*.ts', { cwd: root }).filter(file => file !== 'main.ts')
  assert.ok(files.length > 20)
  const touching = files.filter(file =>
    readFileSync(path.join(root, file), 'utf8')
      .replaceAll(/\/\*.*?\*\//gs, '')
      .replaceAll(/\/\/.*/g, '')
      .match(/\b(process|console)\b(?!\.ts)/),
  )
  assert.deepEqual(touching, [])
})

test("a command uses PostgreSQL's own variables if there is neither --database-url nor DATABASE_URL", async () => {
  const { connectionString } = await createTestDatabase()
  const url = new URL(await commandLineUrl(connectionString))
  const PGDATABASE = url.pathname.slice(1)
  const [PGUSER, PGPASSWORD] = [url.username, url.password]
  const env = { PGHOST: url.hostname, PGPORT: url.port, PGDATABASE, PGUSER, PGPASSWORD }
  const { code, stderr } = await runCommand(['status'], { env })
  assert.deepEqual([code, stderr], [0, ''])
  const wins = await runCommand(['status'], { env: { ...env, DATABASE_URL: UNREACHABLE } })
  assert.match(wins.stderr, /can't reach the database at 127\.0\.0\.1:1/)
  const { code: wrong, stderr: text } = await runCommand(['status'], { env: { ...env, PGHOST: 'a,b' } })
  assert.equal(wrong, 2)
  assert.match(text, /Allowed: one host and one port\./)
  assert.equal((await runCommand(['status'], { env: { PGUSER, PGPASSWORD } })).code, 2)
})
