import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import pg from 'pg'
import { DatabaseNotReadyError, NotMigratedError } from '../../src/errors.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { maySoonPass } from '../../src/worker/wait-for-database.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { atEnd } from '../support/at-end.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { until } from '../support/poll.ts'
import { runProgram, startProgram } from '../support/process.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { startServer } from '../support/server.ts'
import { testServer } from '../support/test-server.ts'

/*
 * A worker that starts before its database. With --wait it begins to flush soon after the database is there, migrated
 * and granted. What can't pass by itself ends it at once.
 */

const MAIN = 'src/cli/main.ts'
const WAITS = ['worker', '--flush-interval', '1', '--wait']

test('a worker with --wait starts to flush when its server comes later, and its port says meanwhile that it lives', async t => {
  const server = await startServer()
  const database = await createTestDatabase({ on: server.connectionString })
  const ids = await createWorkspaces(database.pool, 100)
  await storeClosedMarks(database.pool, ids)
  await server.shutDown()
  const worker = startProgram(MAIN, [...WAITS, '--port', '0'], {
    env: { DATABASE_URL: database.connectionString },
  })
  const [, url] = /"url":"([^"]+)"/.exec(await worker.line(/"url":/))!
  assert.match(await worker.line(/the database is not ready; the worker waits/), /ECONNREFUSED/)
  assert.equal((await fetch(`${url}/healthz`)).status, 200)
  assert.equal((await fetch(`${url}/readyz`)).status, 503)
  const upAt = performance.now()
  await server.startUp()
  await worker.line(/worker started/, { timeoutMs: 20_000 })
  await flushed(database.pool)
  await survive(t, database.pool, ids, upAt)
  assert.equal((await fetch(`${url}/healthz`)).status, 200)
  worker.kill('SIGTERM')
  assert.deepEqual(await worker.untilExit({ timeoutMs: 20_000 }), { code: 0, signal: null })
})

testOnBothVersions(
  'a worker with --wait says what is missing: the database, its migration, its grants; then it flushes',
  async (database, t) => {
    const role = await createLoginRole(database.connectionString, 'waiting worker')
    t.after(() => database.pool.query(`DROP OWNED BY ${pg.escapeIdentifier(role.name)}`))
    const worker = startProgram(MAIN, WAITS, { env: { DATABASE_URL: role.connectionString(database) } })
    await worker.line(/the worker waits.*/)
    assert.match(worker.stdout, /not migrated/)
    await migrate({ connectionString: database.connectionString })
    await worker.line(/grant --worker/, { timeoutMs: 20_000 })
    const ids = await createWorkspaces(database.pool, 10)
    await storeClosedMarks(database.pool, ids)
    const upAt = performance.now()
    const granted = await runProgram(MAIN, ['grant', '--worker', role.name], {
      env: { DATABASE_URL: database.connectionString },
    })
    assert.equal(granted.code, 0, granted.stderr)
    await worker.line(/worker started/, { timeoutMs: 20_000 })
    await flushed(database.pool)
    await survive(t, database.pool, ids, upAt)
    await worker.end()
  },
)

test('a worker whose wait is over ends with 1, and says for what it has waited', async () => {
  const database = await createEmptyDatabase()
  const { code, stderr } = await runProgram(MAIN, ['worker', '--wait', '1'], {
    env: { DATABASE_URL: database.connectionString },
  })
  assert.equal(code, 1)
  assert.match(
    stderr,
    /^error: the database is not ready after a wait of 1 s: this database is not migrated: /,
  )
})

test('a worker with --wait ends at once if its password is wrong, without a wait that can not help', async () => {
  const database = await createTestDatabase()
  const role = await createLoginRole(database.connectionString, 'wrong password')
  const url = new URL(role.connectionString(database))
  url.password = 'another'
  const { logger } = collectLog()
  const started = startFlushWorker({ database: url.href, logger, waitSeconds: 600 })
  await assert.rejects(started, { code: '28P01' })
})

test('a worker without --wait ends at the first failure', async () => {
  const { logger, lines } = collectLog()
  const database = await createEmptyDatabase()
  await assert.rejects(startFlushWorker({ database: database.connectionString, logger }), NotMigratedError)
  assert.deepEqual(lines, [])
})

test('a wait of a worker in a host ends by the signal of the host, and leaves no connection', async () => {
  const database = await createEmptyDatabase()
  const log = collectLog()
  const ending = new AbortController()
  const url = new URL(database.connectionString)
  url.searchParams.set('application_name', 'waits for nothing')
  const starting = startFlushWorker({
    database: url.href,
    logger: log.logger,
    waitSeconds: 600,
    signal: ending.signal,
  })
  starting.catch(() => {})
  await until('it waits', () => log.find('the worker waits').length > 0)
  ending.abort(new Error('the host stops'))
  await assert.rejects(starting, { message: 'the host stops' })
  await until('no connection is left', async () => {
    const { rowCount } = await database.pool.query(
      "SELECT FROM pg_stat_activity WHERE application_name = 'waits for nothing'",
    )
    return rowCount === 0
  })
})

test('a worker that waits for a server which accepts and never answers ends at once by SIGTERM', async () => {
  const silent = await startSilentServer()
  const worker = startProgram(MAIN, WAITS, {
    env: { DATABASE_URL: `postgres://nobody@127.0.0.1:${silent}/none` },
  })
  await until('it has connected', () => connectionsOf(silent) > 0)
  worker.kill('SIGTERM')
  assert.deepEqual(await worker.untilExit({ timeoutMs: 5_000 }), { code: 143, signal: null })
})

test('the errors that a worker waits for are those that pass by themselves', async () => {
  const silent = await startSilentServer()
  const passing = [
    'postgres://127.0.0.1:1/none',
    'postgres://localhost:1/none',
    'postgres://no-such-host.invalid/none',
    'postgres:///none?host=/no/such/directory',
    `postgres://nobody@127.0.0.1:${silent}/none`,
    await withName(await testServer(), '/no_such_database'),
  ]
  for (const url of passing) assert.equal(maySoonPass(await errorOf(url)), true, url)
  for (const code of ['57P03', '53300', '57P01', '08006', '42501', '42P01']) {
    assert.equal(maySoonPass(Object.assign(new Error(code), { code })), true, code)
  }
  for (const code of ['28P01', '28000', '42703', '22023', 'SELF_SIGNED_CERT_IN_CHAIN']) {
    assert.equal(maySoonPass(Object.assign(new Error(code), { code })), false, code)
  }
  assert.equal(maySoonPass(new TypeError('a bug')), false)
  assert.equal(maySoonPass(new DatabaseNotReadyError(1, { cause: new Error('x') })), false)
})

const accepted = new Map<number, Socket[]>()
const connectionsOf = (port: number) => accepted.get(port)!.length

/** Accepts connections and never answers. @returns Its port. */
async function startSilentServer(): Promise<number> {
  const sockets: Socket[] = []
  const server = createServer(socket => {
    sockets.push(socket.on('error', () => {}))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  atEnd(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const { port } = server.address() as AddressInfo
  accepted.set(port, sockets)
  return port
}

async function errorOf(connectionString: string): Promise<unknown> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 500 })
  client.on('error', () => {})
  return await client.connect().then(
    () => undefined,
    error => error,
  )
}

async function withName(server: string, pathname: string): Promise<string> {
  return Object.assign(new URL(server), { pathname }).href
}

async function flushed(pool: pg.Pool): Promise<void> {
  await until('all marks are flushed', async () => (await pendingCount(pool)) === 0, { timeoutMs: 20_000 })
}

/** Tells what became of the marks, and that none is lost. */
async function survive(t: TestContext, pool: pg.Pool, ids: string[], since: number): Promise<void> {
  const seconds = ((performance.now() - since) / 1_000).toFixed(1)
  const survived = (await lastUsedAt(pool, ids)).filter(time => time !== null).length
  const lost = ids.length - survived
  t.diagnostic(`marked ${ids.length}, survived ${survived}, lost ${lost}, recovered in ${seconds} s`)
  assert.equal(lost, 0)
}
