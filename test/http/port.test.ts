import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, get } from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'
import { test } from 'node:test'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { type CommandResult, runCommand, startCommand } from '../support/command-line.ts'
import { createTestDatabase } from '../support/database.ts'
import { flushJobs } from '../support/jobs.ts'
import { until } from '../support/poll.ts'
import { createLoginRole } from '../support/roles.ts'
import { startWorkerWithPort, urlOf } from '../support/worker-port.ts'

const database = await createTestDatabase()
const { pool, connectionString } = database
const env = { DATABASE_URL: connectionString }

/** Starts a worker that must refuse to start. One that starts nevertheless is stopped, so that the test fails. */
async function refusedStart(args: string[], variables: Record<string, string> = {}): Promise<CommandResult> {
  const command = startCommand(['worker', ...args], { env: { ...env, ...variables } })
  const timer = setTimeout(() => command.end(), 15_000)
  return await command.ended.finally(() => clearTimeout(timer))
}

/** What a wrong start must leave undone. */
async function assertNothingStarted(): Promise<void> {
  assert.deepEqual(await flushJobs(pool), [])
  const { rows } = await pool.query(
    `SELECT application_name FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'workspace-usage%'`,
  )
  assert.deepEqual(rows, [])
}

test('wrong options of the port are refused with 2, and nothing is started', async () => {
  const wrong: [args: string[], text: RegExp][] = [
    [
      ['--port', '70000'],
      /'--port <port>' argument '70000' is invalid\. Allowed: an integer from 0 to 65535\./,
    ],
    [['--port', '-1'], /Allowed: an integer from 0 to 65535\./],
    [['--port', '80.5'], /Allowed: an integer from 0 to 65535\./],
    [['--port', ''], /Allowed: an integer from 0 to 65535\./],
    [['--port', '0', '--host', ''], /Allowed: a host name or an IP address of this machine\./],
    [['--dashboard'], /^error: --dashboard needs --port\n/],
    [['--host', '::1'], /^error: --host needs --port\n/],
    [['--port', '0', '--dashboard-write'], /^error: --dashboard-write needs --dashboard\n/],
    [['--port', '0', '--max-lag', '-3'], /'--max-lag <seconds>' argument '-3' is invalid\. Allowed: /],
    [
      ['--port', '0', '--silent-after', '1h'],
      /'--silent-after <seconds>' argument '1h' is invalid\. Allowed: /,
    ],
    [['--port', '0', '--host', '0.0.0.0', '--dashboard'], /open to everybody who reaches "0\.0\.0\.0"/],
    [
      ['--port', '0', '--host', '::', '--dashboard'],
      /Set PGBOSS_DASHBOARD_AUTH_USERNAME and PGBOSS_DASHBOARD_/,
    ],
    [
      ['--port', '0', '--dashboard', '--dashboard-username', 'ops'],
      /Set PGBOSS_DASHBOARD_AUTH_PASSWORD, or /,
    ],
    [['--port', '0', '--dashboard', '--dashboard-password', 'x'], /Set PGBOSS_DASHBOARD_AUTH_USERNAME, or /],
    [
      ['--port', '0', '--dashboard', '--dashboard-username', 'a:b', '--dashboard-password', 'x'],
      /PGBOSS_DASHBOARD_AUTH_USERNAME is "a:b"; allowed: a name without a colon\./,
    ],
  ]
  for (const [args, text] of wrong) {
    const { code, stderr, stdout } = await refusedStart(args)
    assert.match(stderr, text)
    assert.deepEqual({ code, stdout }, { code: 2, stdout: '' }, args.join(' '))
  }
  await assertNothingStarted()
})

test('the variables of the port are checked as its flags are', async () => {
  const wrong: [variable: string, value: string][] = [
    ['WORKSPACE_USAGE_PORT', 'http'],
    ['WORKSPACE_USAGE_MAX_LAG', 'long'],
    ['WORKSPACE_USAGE_SILENT_AFTER', 'never'],
    ['WORKSPACE_USAGE_DASHBOARD', 'yes'],
    ['WORKSPACE_USAGE_DASHBOARD_WRITE', 'yes'],
    ['WORKSPACE_USAGE_HOST', '127.0.0.1'],
  ]
  for (const [variable, value] of wrong) {
    const { code, stdout } = await refusedStart([], { [variable]: value })
    assert.deepEqual({ code, stdout }, { code: 2, stdout: '' }, variable)
  }
  await assertNothingStarted()
})

test('a port that is taken, or a host that is not of this machine, ends the worker with 1 before it has started', async t => {
  const other = createServer().listen(0, '127.0.0.1')
  t.after(() => other.close())
  await once(other, 'listening')
  const taken = String((other.address() as AddressInfo).port)
  const wrong: [args: string[], text: RegExp][] = [
    [
      ['--port', taken],
      new RegExp(`port ${taken} of "127.0.0.1": another program listens there. Give another --port`),
    ],
    [['--port', taken, '--dashboard'], /another program listens there/],
    [
      ['--port', '0', '--host', '192.0.2.1'],
      /of "192\.0\.2\.1": that is no address of this machine\. Allowed for --host/,
    ],
    [
      ['--port', '0', '--host', 'no-such-host.invalid'],
      /"no-such-host\.invalid": no address is known for that name/,
    ],
  ]
  for (const [args, text] of wrong) {
    const { code, stderr, stdout } = await refusedStart(args)
    assert.match(stderr, text)
    assert.deepEqual({ code, stdout }, { code: 1, stdout: '' }, args.join(' '))
  }
  await assertNothingStarted()
})

test('a worker that can not start closes its port again', async () => {
  const unmigrated = new URL(connectionString)
  unmigrated.searchParams.set('options', '-c search_path=nowhere')
  const command = startCommand(['worker', '--port', '0'], { env: { DATABASE_URL: unmigrated.href } })
  const url = await urlOf(command)
  assert.equal((await command.ended).code, 1)
  await assert.rejects(fetch(url))
})

test('a worker lists what it serves, answers GET and HEAD only, and knows no other path', async t => {
  const { url, stop } = await startWorkerWithPort(database)
  t.after(stop)
  const ask = async (path: string, method = 'GET') => {
    const response = await fetch(new URL(path, url), { method })
    return [response.status, await response.text()] as const
  }
  const [status, list] = await ask('/')
  assert.equal(status, 200)
  for (const path of ['/healthz', '/readyz', '/metrics']) assert.ok(list.includes(path))
  assert.ok(!list.includes('/queues'))
  assert.deepEqual(await ask('/healthz'), [200, '{"alive":true,"reason":null}'])
  assert.deepEqual(await ask('/healthz', 'HEAD'), [200, ''])
  assert.equal((await ask('/metrics'))[0], 200)
  for (const path of ['/queues', '/nothing', '/healthz/', '/metrics/x', '/%2fhealthz', '/.data']) {
    assert.equal((await ask(path))[0], 404, path)
  }
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
    assert.deepEqual(await ask('/healthz', method), [405, 'Allowed: GET, HEAD.\n'], method)
  }
  assert.equal((await stop()).code, 0)
})

test('a probe that speaks HTTP/1.0 and names no host is answered, and the dashboard without a password is not', async t => {
  const { url, stop } = await startWorkerWithPort(database, ['--dashboard'])
  t.after(stop)
  const ask = async (path: string) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.write(`GET ${path} HTTP/1.0\r\n\r\n`)
    let answer = ''
    for await (const text of socket.setEncoding('utf8')) answer += text
    return answer
  }
  for (const path of ['/healthz', '/readyz', '/metrics'])
    assert.match(await ask(path), /^HTTP\/1\.1 200 OK\r\n/)
  for (const path of ['/queues', '/queues.data']) assert.match(await ask(path), /^HTTP\/1\.1 421 /)
})

test('a worker that stops closes its port at once, with connections that are kept alive, idle or half open', async () => {
  const { url, command } = await startWorkerWithPort(database)
  const agent = new Agent({ keepAlive: true })
  const [response] = await once(get(new URL('/healthz', url), { agent }), 'response')
  response.resume()
  await once(response, 'end')
  const { port } = new URL(url)
  const silent = connect(Number(port), '127.0.0.1')
  const half = connect(Number(port), '127.0.0.1')
  half.write('GET /metrics HT')
  await Promise.all([once(silent, 'connect'), once(half, 'connect')])
  for (const socket of [silent, half]) socket.on('error', () => {}).resume()
  const started = performance.now()
  command.emit('SIGTERM', 'SIGTERM')
  await until('the connections are closed', () => silent.closed && half.closed)
  assert.equal((await command.ended).code, 0)
  assert.ok(performance.now() - started < 5_000)
  await assert.rejects(fetch(url))
  agent.destroy()
})

test('all connections of a worker with port and dashboard are closed when it has ended', async () => {
  const { url, stop } = await startWorkerWithPort(database, ['--dashboard'])
  for (const path of ['/readyz', '/metrics', '/queues']) {
    assert.equal((await fetch(new URL(path, url))).status, 200, path)
  }
  assert.equal((await stop()).code, 0)
  await until('the connections are gone', async () => {
    const { rows } = await pool.query(
      `SELECT count(*)::int AS open FROM pg_stat_activity
      WHERE datname = current_database() AND application_name LIKE 'workspace-usage%'`,
    )
    return (rows[0] as { open: number }).open === 0
  })
})

test('a role with what grant --worker gives serves every route, the dashboard included', async t => {
  const role = await createLoginRole(connectionString, 'worker')
  const granted = await createTestDatabase()
  assert.equal(
    (await runCommand(['grant', '--worker', role.name], { env: { DATABASE_URL: granted.connectionString } }))
      .code,
    0,
  )
  const { url, stop, command } = await startWorkerWithPort(
    { connectionString: role.connectionString(granted) },
    ['--dashboard'],
  )
  t.after(stop)
  await until('the verdict is good', async () => (await fetch(new URL('/readyz?severity=warning', url))).ok)
  for (const path of [
    '/healthz',
    '/metrics',
    '/queues',
    '/queues/jobs',
    '/queues/schedules',
    '/queues/warnings',
  ]) {
    assert.equal((await fetch(new URL(path, url))).status, 200, path)
  }
  const { rows } = await granted.pool.query('SELECT monitor_on FROM pgboss.queue WHERE name = $1', [
    FLUSH_QUEUE,
  ])
  assert.ok((rows[0] as { monitor_on: Date | null }).monitor_on, 'the first statistics are there')
  assert.doesNotMatch(command.printed, /"level":(?:40|50)/)
})
