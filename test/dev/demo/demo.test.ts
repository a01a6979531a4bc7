import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { suite, test } from 'node:test'
import pg from 'pg'
import { atEnd } from '../../support/at-end.ts'
import { createEmptyDatabase } from '../../support/database.ts'
import { setPeriodLength } from '../../support/period.ts'
import { until } from '../../support/poll.ts'
import { type Program, runProgram, startProgram } from '../../support/process.ts'

const DEMO = 'dev/demo/demo.ts'
const START = { timeoutMs: 30_000 }
/** A row of numbers: calls of mark(), marks stored, marks flushed, workspaces updated, and the time of the flush. */
const ROW = /Z +\d+ +\d+ +[1-9]\d* +[1-9]\d* +[\d.]+ ms /

suite('npm start', { concurrency: true }, () => {
  test('npm start shows marks turn into last_used_at, serves the dashboard, and Ctrl-C stops all of it', async () => {
    const npm = startNpm(['--period=1', '--flush-interval=1'])
    const connectionString = (await npm.line(/DATABASE_URL=/, START)).match(/postgresql:\S+/)![0]
    await npm.line(ROW, START)

    const page = await fetch((await npm.line(/http:/)).trim())
    assert.equal(page.status, 200)
    assert.match(await page.text(), /workspace-usage-flush/)
    const client = new pg.Client({ connectionString })
    await client.connect()
    const { rows } = await client.query('SELECT count(last_used_at)::int AS used FROM workspaces')
    await client.end()
    assert.ok(rows[0].used > 0)

    await npm.line(/^ +npm run .* status$/)
    await npm.line(/^ +npm run .* doctor$/)
    await npm.line(/^ +npm run .* explain [0-9a-f-]{36}$/)
    await npm.line(/^ +(ssh|vscode|port-forward) +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ +(pending|flushed)$/)
    await npm.line(/^ +npm run .* idle --for /)
    await npm.line(/^ +[0-9a-f-]{36} +(\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ|never used)$/, { count: 3 })

    npm.signalGroup('SIGINT')
    assert.deepEqual(await npm.untilExit(), { code: 0, signal: null })
    await npm.line(/stopping: SIGINT/)
    await until('the server is gone', () => isGone(connectionString))
    const long = npm.lines(/.{81}/)
    assert.deepEqual(
      long.filter(line => !line.includes(connectionString)),
      [],
    )
  })

  test('npm start leaves neither Node nor PostgreSQL behind after a SIGTERM that only npm gets', async () => {
    const npm = startNpm()
    const connectionString = (await npm.line(/DATABASE_URL=/, START)).match(/postgresql:\S+/)![0]
    await npm.line(/Ctrl-C stops everything/)
    npm.kill('SIGTERM')
    await npm.untilExit()
    await until('its process group is empty', () => isEmpty(npm.pid))
    await until('the server is gone', () => isGone(connectionString))
  })

  test('npm start leaves no Node behind after a SIGKILL that only npm gets', async () => {
    const { connectionString } = await createEmptyDatabase()
    const npm = startNpm([], { DATABASE_URL: connectionString })
    await npm.line(/Ctrl-C stops everything/, START)
    npm.kill('SIGKILL')
    await until('its process group is empty', () => isEmpty(npm.pid))
  })

  test('the demo on the database of DATABASE_URL creates workspaces and use only with --demo', async () => {
    const database = await createEmptyDatabase()
    const env = { DATABASE_URL: database.connectionString }
    const plain = startProgram(DEMO, ['--flush-interval=1'], { env })
    await plain.line(/nothing to flush/, START)
    plain.kill('SIGTERM')
    assert.deepEqual(await plain.exited, { code: 0, signal: null })
    assert.ok(!plain.stdout.includes(new URL(database.connectionString).password))
    const count = async () => {
      const { rows } = await database.pool.query('SELECT count(*)::int AS workspaces FROM workspaces')
      return rows[0].workspaces
    }
    assert.equal(await count(), 0)

    await setPeriodLength(database.pool, 1)
    const asked = startProgram(DEMO, ['--demo', '--flush-interval=1'], { env })
    await asked.line(ROW, START)
    asked.kill('SIGTERM')
    assert.deepEqual(await asked.exited, { code: 0, signal: null })
    assert.ok((await count()) > 0)
  })
})

suite('a demo that does not start', {
  concurrency: 2,
}, () => {
  const hint = '(npm start -- --help tells what is allowed)\n'
  const port = (value: string) =>
    `error: option '--dashboard-port <port>' argument '${value}' is invalid. ` +
    `Allowed: an integer from 0 to 65535.\n${hint}`
  const cases: { args?: string[]; url?: string; code?: number; stderr: string | RegExp }[] = [
    { args: ['--dashboard-port', 'abc'], stderr: port('abc') },
    { args: ['--dashboard-port', '70000'], stderr: port('70000') },
    { args: ['--dashboard-port', '-1'], stderr: port('-1') },
    {
      args: ['--dashboard-prot=1'],
      stderr: /^error: unknown option '--dashboard-prot=1'\n.*--dashboard-port/,
    },
    { args: ['postgres://u:secret@h/x'], stderr: /^error: too many arguments/ },
    {
      args: ['--period=1'],
      url: 'postgres://u:secret@h/x',
      stderr: /'--period <seconds>' cannot .*DATABASE_URL/,
    },
    { url: 'u:secret@h/x', stderr: /^error: .*(--database-url|connectionString).* a URL such as .*\n/ },
    {
      url: 'postgres://u:secret@h:99999/x',
      stderr: /^error: .*(--database-url|connectionString).* a port from 1 to 65535/,
    },
    {
      url: 'postgres://u:secret@127.0.0.1:1/x',
      code: 1,
      stderr: /^error: can't reach the database at 127.0.0.1:1: .* Check .*DATABASE_URL.*\n$/,
    },
  ]
  for (const { args = [], url, code = 2, stderr } of cases) {
    const given = [...args, url && `DATABASE_URL=${url}`].join(' ').trim()
    test(`a demo that does not start says why, without a stack or a password: ${given}`, async () => {
      const run = await runProgram(DEMO, args, { env: url === undefined ? {} : { DATABASE_URL: url } })
      if (typeof stderr === 'string') assert.equal(run.stderr, stderr)
      else assert.match(run.stderr, stderr)
      assert.doesNotMatch(run.stdout + run.stderr, /secret|\n +at /)
      assert.equal(run.code, code)
    })
  }

  test('a demo that does not start says why, without a stack: a --dashboard-port that is taken', async () => {
    await using other = createServer().listen(0, '127.0.0.1')
    await until('it listens', () => other.listening)
    const { port } = other.address() as { port: number }
    const { stdout, stderr, code } = await runProgram(DEMO, [`--dashboard-port=${port}`])
    assert.equal(
      stderr,
      `error: port ${port} of 127.0.0.1 can't be had for the dashboard: another program listens there. ` +
        'Give another --dashboard-port, or leave it out to have a free one.\n',
    )
    assert.deepEqual({ stdout, code }, { stdout: '', code: 1 })
  })
})

function startNpm(args: string[] = [], env: Record<string, string> = {}): Program {
  // The program of npm itself, because the tests send signals to npm.
  const npm = (process.env.PATH ?? '').split(delimiter).map(directory => join(directory, 'npm'))
  const program = startProgram(npm.find(existsSync)!, ['start', '--', ...args], {
    group: true,
    env: { ...env, npm_config_update_notifier: 'false' },
  })
  // Only a test that fails leaves processes behind.
  atEnd(() => isEmpty(program.pid) || program.signalGroup('SIGKILL'))
  return program
}

async function isGone(connectionString: string): Promise<boolean> {
  const client = new pg.Client({ connectionString })
  try {
    await client.connect()
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ECONNREFUSED'
  }
  await client.end()
  return false
}

function isEmpty(processGroup: number): boolean {
  try {
    process.kill(-processGroup, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
  return false
}
