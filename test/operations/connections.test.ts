import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createPool } from '../../src/database/pool.ts'
import { openHttpPort } from '../../src/http/http-port.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'

const NAME = 'a worker with a backlog has at most five connections, and a tracker that sends has one'

test(NAME, async () => countConnections(await createTestDatabase()))

test(`on PostgreSQL 15, ${NAME}`, t => onPostgres15(t, countConnections))

const WITH_PORT = 'a worker with a port that is asked at the same time has at most seven connections'

test(WITH_PORT, async () => countWithPort(await createTestDatabase()))

test(`on PostgreSQL 15, ${WITH_PORT}`, t => onPostgres15(t, countWithPort))

async function countWithPort(database: TestDatabase): Promise<void> {
  const { connectionString, pool } = database
  await storeClosedMarks(pool, await createWorkspaces(pool, 2_000))
  const { logger } = collectLog()
  await using port = await openHttpPort({
    port: 0,
    host: '127.0.0.1',
    database: connectionString,
    logger,
    health: {},
    dashboard: null,
  })
  await using worker = await startFlushWorker({
    database: connectionString,
    logger,
    flushIntervalSeconds: 1,
    batchSize: 50,
  })
  port.answersFor(worker)
  const paths = ['healthz', 'readyz', 'readyz', 'readyz', 'metrics', 'metrics']
  let most = 0
  await until('the backlog is flushed', async () => {
    const asked = paths.map(path => fetch(new URL(path, port.url)).then(response => response.text()))
    most = Math.max(most, await connections(database, 'workspace-usage worker'))
    await Promise.all(asked)
    return (await pendingCount(pool)) === 0
  })
  assert.ok(most >= 3 && most <= 7, `${most} connections`)
}

async function countConnections(database: TestDatabase): Promise<void> {
  const { connectionString, pool } = database
  const ids = await createWorkspaces(pool, 2_000)
  await storeClosedMarks(pool, ids)
  const marking = createPool(connectionString, { applicationName: 'marking', max: 10 })
  atEnd(() => marking.end())
  const tracker = new UsageTracker(marking, { source: 'ssh', logger: collectLog().logger })
  await using worker = await startFlushWorker({
    database: connectionString,
    logger: collectLog().logger,
    flushIntervalSeconds: 1,
    batchSize: 50,
  })
  let ofWorker = 0
  let ofTracker = 0
  await until('the backlog is flushed', async () => {
    for (const id of ids) tracker.mark(id)
    ofWorker = Math.max(ofWorker, await connections(database, 'workspace-usage worker'))
    ofTracker = Math.max(ofTracker, await connections(database, 'marking'))
    // The marks of the tracker are of the open period, one for each workspace.
    return (await pendingCount(pool)) <= ids.length && ofTracker > 0
  })
  await tracker.close()
  await worker.stop()
  assert.ok(ofWorker >= 2 && ofWorker <= 5, `${ofWorker} connections of the worker`)
  assert.equal(ofTracker, 1)
}

async function connections({ pool, name }: TestDatabase, application: string): Promise<number> {
  const { rows } = await pool.query(
    'SELECT count(*)::int AS count FROM pg_stat_activity WHERE datname = $1 AND application_name = $2',
    [name, application],
  )
  return (rows[0] as { count: number }).count
}
