import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type pg from 'pg'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { closeFlushGate } from '../support/flush-gate.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { type Program, startProgram } from '../support/process.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { startServer } from '../support/server.ts'

/*
 * A worker is told to stop at a bad moment. It ends in bounded time, by itself, and loses nothing. A flush of these
 * workers may take one second, so that a stop by force comes after six seconds.
 */

const STOP_MS = 20_000

test('a worker that is stopped while it connects to a server that never answers ends at once', async t => {
  const database = await createTestDatabase()
  await using proxy = await startHalfOpenProxy(database.connectionString)
  proxy.silence('silent')
  const worker = startWorker(proxy.connectionString)
  await until('it has connected', () => proxy.accepted > 0)
  await ends(t, worker, { code: 143, signal: null })
})

test('a worker that starts while nobody listens ends with 1, and names the reason', async () => {
  const worker = startWorker('postgres://nobody@127.0.0.1:1/nowhere')
  assert.deepEqual(await worker.untilExit({ timeoutMs: STOP_MS }), { code: 1, signal: null })
  assert.match(worker.stderr, /^error: .*ECONNREFUSED/)
})

test('a worker that is stopped while its server is away ends with 0, and another one flushes the marks later', async t => {
  const server = await startServer()
  const database = await createTestDatabase({ on: server.connectionString })
  const ids = await createWorkspaces(database.pool, 50)
  const worker = startWorker(database.connectionString)
  await worker.line(/worker started/, { timeoutMs: 30_000 })
  await server.shutDown()
  await worker.line(/out of reach/, { timeoutMs: 20_000 })
  await ends(t, worker, { code: 0, signal: null })
  await server.startUp()
  await storeClosedMarks(database.pool, ids)
  await flushedByAnother(t, database, ids)
})

test('a worker that is stopped in a flush which waits for longer than it may ends with 0, and its marks are flushed by another one', async t => {
  const database = await createTestDatabase()
  const ids = await createWorkspaces(database.pool, 50)
  await storeClosedMarks(database.pool, ids)
  const gate = await closeFlushGate(database)
  const worker = startWorker(database.connectionString)
  await gate.untilReached()
  await ends(t, worker, { code: 0, signal: null })
  assert.equal(await pendingCount(database.pool), 50)
  await gate.open()
  await flushedByAnother(t, database, ids)
})

test('a worker that is stopped in a flush whose connection went silent ends with 0, and its marks are flushed by another one', async t => {
  const database = await createTestDatabase()
  const ids = await createWorkspaces(database.pool, 50)
  await storeClosedMarks(database.pool, ids)
  const gate = await closeFlushGate(database)
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const worker = startWorker(proxy.connectionString)
  await gate.untilReached()
  proxy.silence('silent')
  await ends(t, worker, { code: 0, signal: null })
  await gate.open()
  await flushedByAnother(t, database, ids)
})

test('a worker of a host that is stopped in a flush which waits for longer than it may leaves no connection', async t => {
  const database = await createTestDatabase()
  const ids = await createWorkspaces(database.pool, 50)
  await storeClosedMarks(database.pool, ids)
  const gate = await closeFlushGate(database)
  const worker = await startFlushWorker({
    database: database.connectionString,
    logger: collectLog().logger,
    flushIntervalSeconds: 1,
    flushTimeoutSeconds: 1,
  })
  await gate.untilReached()
  const since = performance.now()
  await worker.stop()
  assert.ok(performance.now() - since < STOP_MS)
  await until('no worker has a connection', async () => {
    const { rowCount } = await database.pool.query(
      `SELECT FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'workspace-usage worker'`,
    )
    return rowCount === 0
  })
  assert.equal(await pendingCount(database.pool), 50)
  await gate.open()
  await flushedByAnother(t, database, ids)
})

function startWorker(connectionString: string): Program {
  const args = ['worker', '--flush-interval', '1', '--flush-timeout', '1']
  return startProgram('src/cli/main.ts', args, { env: { DATABASE_URL: connectionString } })
}

async function ends(t: TestContext, worker: Program, exit: object): Promise<void> {
  const since = performance.now()
  worker.kill('SIGTERM')
  assert.deepEqual(await worker.untilExit({ timeoutMs: STOP_MS }), exit, worker.stdout + worker.stderr)
  t.diagnostic(`the stop took ${((performance.now() - since) / 1_000).toFixed(1)} s`)
}

async function flushedByAnother(
  t: TestContext,
  { pool, connectionString }: { pool: pg.Pool; connectionString: string },
  ids: string[],
): Promise<void> {
  const since = performance.now()
  const worker = startWorker(connectionString)
  await until('all marks are flushed', async () => (await pendingCount(pool)) === 0, { timeoutMs: 30_000 })
  const survived = (await lastUsedAt(pool, ids)).filter(time => time !== null).length
  const seconds = ((performance.now() - since) / 1_000).toFixed(1)
  const lost = ids.length - survived
  t.diagnostic(`marked ${ids.length}, survived ${survived}, lost ${lost}, recovered in ${seconds} s`)
  assert.equal(lost, 0)
  await worker.end()
}
