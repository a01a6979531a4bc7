import assert from 'node:assert/strict'
import { request } from 'node:http'
import { test } from 'node:test'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { createTestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { startProgram } from '../support/process.ts'
import { startWorkerWithPort } from '../support/worker-port.ts'

const database = await createTestDatabase()
const { pool, connectionString } = database

const CREDENTIALS = { PGBOSS_DASHBOARD_AUTH_USERNAME: 'ops', PGBOSS_DASHBOARD_AUTH_PASSWORD: 'pässwörd:1' }
const basic = (name: string, password: string) =>
  `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`
const authorization = basic('ops', 'pässwörd:1')

interface Answer {
  status: number
  text: string
  headers: Headers
}

/** Unlike `fetch`, it sends any Host header. */
function ask(url: string, headers: Record<string, string> = {}, method = 'GET', body = ''): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const length = { 'content-length': Buffer.byteLength(body) }
    const asking = request(url, { method, headers: { ...headers, ...length }, agent: false }, response => {
      let text = ''
      response.setEncoding('utf8').on('data', part => {
        text += part
      })
      response.on('end', () => {
        resolve({ status: response.statusCode!, text, headers: new Headers(response.headers as never) })
      })
    })
    asking.on('error', reject).end(body)
  })
}

/** A job that has failed for good, as the dashboard would retry it. */
async function createFailedJob(): Promise<string> {
  const { rows } = await pool.query(
    `INSERT INTO pgboss.job (name, state, policy, output, completed_on, retry_limit, retry_count)
    VALUES ($1, 'failed', 'short', '{"message":"lock timeout"}', now(), 3, 3) RETURNING id`,
    [FLUSH_QUEUE],
  )
  return (rows[0] as { id: string }).id
}

async function stateOf(id: string): Promise<string | undefined> {
  const { rows } = await pool.query('SELECT state FROM pgboss.job WHERE id = $1', [id])
  return (rows[0] as { state: string } | undefined)?.state
}

const FORM = { 'content-type': 'application/x-www-form-urlencoded' }

test('the dashboard is served below /queues, with its scripts and its data, and may not be framed', async t => {
  const { url, stop } = await startWorkerWithPort(database, ['--dashboard'])
  t.after(stop)
  const page = await ask(`${url}/queues`)
  assert.equal(page.status, 200)
  assert.match(page.headers.get('content-security-policy')!, /frame-ancestors 'none'/)
  assert.equal(page.headers.get('x-frame-options'), 'DENY')
  assert.equal(page.headers.get('x-content-type-options'), 'nosniff')
  const [script] = /\/queues\/assets\/[^"]+\.js/.exec(page.text)!
  assert.equal((await ask(`${url}${script}`)).headers.get('content-type'), 'text/javascript; charset=utf-8')
  const queue = await ask(`${url}/queues/queues/${FLUSH_QUEUE}`)
  assert.equal(queue.status, 200)
  assert.ok(queue.text.includes(FLUSH_QUEUE))
  assert.equal((await ask(`${url}/queues/queues/${FLUSH_QUEUE}.data`)).status, 200)
  assert.equal((await ask(`${url}/queues/nowhere`)).status, 404)
  assert.ok((await ask(url)).text.includes('/queues'))
  assert.equal((await ask(`${url}/healthz`)).status, 200)
})

test('the dashboard changes nothing unless --dashboard-write is given, whatever the path, the method or the headers', async t => {
  const { url, stop } = await startWorkerWithPort(database, ['--dashboard'])
  t.after(stop)
  const id = await createFailedJob()
  const job = `/queues/queues/${FLUSH_QUEUE}/jobs/${id}`
  const origin = { ...FORM, origin: url }
  const paths = [
    job,
    `${job}.data`,
    `${job}.data?_routes=x`,
    '/queues',
    '/queues.data',
    '/queues/schedules/new',
  ]
  for (const path of paths) {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'PROPFIND']) {
      const { status, text } = await ask(`${url}${path}`, origin, method, 'intent=retry')
      assert.equal(status, 403, `${method} ${path}`)
      assert.match(text, /read-only\. Start the worker with --dashboard-write/)
    }
  }
  const headers = { ...origin, 'x-http-method-override': 'POST' }
  assert.equal((await ask(`${url}${job}?intent=retry&_method=POST`, headers)).status, 200)
  assert.equal(await stateOf(id), 'failed')
  assert.match((await ask(`${url}${job}`)).text, /failed/)
  assert.doesNotMatch((await ask(`${url}${job}`)).text, />Retry</)
})

test('with --dashboard-write a page of the dashboard retries a job, and another site can not', async t => {
  const { url, stop } = await startWorkerWithPort(database, ['--dashboard', '--dashboard-write'])
  t.after(stop)
  const { host } = new URL(url)
  const id = await createFailedJob()
  const job = `${url}/queues/queues/${FLUSH_QUEUE}/jobs/${id}`
  const foreign: Record<string, string>[] = [
    { origin: 'http://evil.example' },
    { origin: `http://evil.example`, 'sec-fetch-site': 'same-origin' },
    { origin: 'null' },
    { origin: `http://${host}.evil.example` },
    { 'sec-fetch-site': 'cross-site' },
    { origin: url, 'sec-fetch-site': 'same-site' },
  ]
  for (const headers of foreign) {
    const { status, text } = await ask(job, { ...FORM, ...headers }, 'POST', 'intent=retry')
    assert.deepEqual([status, text], [403, 'Only pages of the dashboard may change something here.\n'])
  }
  assert.equal(await stateOf(id), 'failed')
  assert.equal((await ask(job, FORM, 'PUT', 'intent=retry')).status, 405)
  const answer = await ask(
    job,
    { ...FORM, origin: url, 'sec-fetch-site': 'same-origin' },
    'POST',
    'intent=retry',
  )
  assert.equal(answer.status, 200, answer.text)
  await until('the retried job has flushed', async () => (await stateOf(id)) === 'completed')
})

test('without a password the dashboard answers to loopback names only, so that no web page reads it by a name of its own', async t => {
  const { url, stop } = await startWorkerWithPort(database, ['--dashboard'])
  t.after(stop)
  const { port } = new URL(url)
  for (const host of [`localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`]) {
    assert.equal((await ask(`${url}/queues`, { host })).status, 200, host)
  }
  for (const host of ['evil.example', `evil.example:${port}`, `localhost.evil.example:${port}`]) {
    for (const path of [
      '/queues',
      `/queues/queues/${FLUSH_QUEUE}.data`,
      '/queues.data',
      '/queues/assets/x.js',
    ]) {
      const { status, text } = await ask(`${url}${path}`, { host })
      assert.equal(status, 421, `${host} ${path}`)
      assert.match(text, /PGBOSS_DASHBOARD_AUTH_USERNAME/)
    }
  }
})

test('with a name and a password in the environment the dashboard asks for them, also on loopback', async t => {
  const { url, stop } = await startWorkerWithPort(database, ['--dashboard'], CREDENTIALS)
  t.after(stop)
  const paths = [
    '/queues',
    '/queues.data',
    `/queues/queues/${FLUSH_QUEUE}`,
    '/queues/assets/x.js',
    '/queues/nowhere',
  ]
  for (const path of paths) {
    const wrong = [
      undefined,
      basic('ops', 'wrong'),
      basic('other', 'pässwörd:1'),
      basic('', ''),
      'Bearer x',
      'Basic x',
    ]
    for (const given of wrong) {
      const answer = await ask(`${url}${path}`, given === undefined ? {} : { authorization: given })
      assert.equal(answer.status, 401, `${path} ${given}`)
      assert.match(answer.headers.get('www-authenticate')!, /^Basic realm=/)
    }
  }
  assert.equal((await ask(`${url}/queues`, { authorization })).status, 200)
  assert.equal((await ask(`${url}/queues`, { authorization, host: 'ops.example.com' })).status, 200)
  assert.equal((await ask(`${url}/queues`, { ...FORM, authorization }, 'POST')).status, 403)
  assert.equal((await ask(`${url}/healthz`)).status, 200)
})

test('with a password the dashboard may be served on every address of the machine', async t => {
  const args = ['--dashboard', '--dashboard-write', '--host', '0.0.0.0']
  const { url, stop } = await startWorkerWithPort(database, args, CREDENTIALS)
  t.after(stop)
  assert.match(url, /^http:\/\/0\.0\.0\.0:/)
  const local = `http://127.0.0.1:${new URL(url).port}`
  assert.equal((await ask(`${local}/queues`)).status, 401)
  assert.equal((await ask(`${local}/queues`, { authorization })).status, 200)
  const id = await createFailedJob()
  const job = `/queues/queues/${FLUSH_QUEUE}/jobs/${id}`
  // A proxy ends TLS: the browser's page has another scheme than the request that comes here.
  const proxied = { ...FORM, authorization, host: 'ops.example.com', origin: 'https://ops.example.com' }
  assert.equal((await ask(`${local}${job}`, proxied, 'POST', 'intent=delete')).status, 302)
  assert.equal(await stateOf(id), undefined)
})

test('the process of a worker takes the password from its environment, and never prints it or a word of the dashboard on its log', async () => {
  const worker = startProgram('src/cli/main.ts', ['worker', '--port', '0', '--dashboard'], {
    env: { DATABASE_URL: connectionString, ...CREDENTIALS },
  })
  await worker.line(/worker started/)
  const { url } = JSON.parse(worker.lines(/HTTP port open/)[0]!) as { url: string }
  assert.equal((await ask(`${url}/queues`)).status, 401)
  assert.equal((await ask(`${url}/queues`, { authorization })).status, 200)
  worker.kill('SIGTERM')
  assert.deepEqual(await worker.exited, { code: 0, signal: null })
  for (const line of worker.stdout.trim().split('\n')) assert.equal(typeof JSON.parse(line), 'object')
  assert.ok(!(worker.stdout + worker.stderr).includes('pässwörd'))
})

test('a worker whose dashboard is not installed says which package is missing, and does not start', async () => {
  const hooks = `export async function resolve(specifier, context, next) {
    if (!specifier.startsWith('@pg-boss/dashboard')) return next(specifier, context)
    throw Object.assign(new Error("Cannot find package '@pg-boss/dashboard' imported from here"), { code: 'ERR_MODULE_NOT_FOUND' })
  }`
  const asUrl = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`
  const register = `import { register } from 'node:module'; register(${JSON.stringify(asUrl(hooks))})`
  const worker = startProgram('src/cli/main.ts', ['worker', '--port', '0', '--dashboard'], {
    env: { DATABASE_URL: connectionString, NODE_OPTIONS: `--import=${asUrl(register)}` },
  })
  assert.deepEqual(await worker.exited, { code: 1, signal: null })
  assert.match(
    worker.stderr,
    /error: the dashboard needs the package @pg-boss\/dashboard, which is not installed\./,
  )
  assert.equal(worker.stdout, '')
})
