import assert from 'node:assert/strict'
import { test } from 'node:test'
import type pg from 'pg'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { collectLog } from '../support/log-lines.ts'
import { startMovingAddress } from '../support/moving-address.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, storeClosedMarks } from '../support/seed.ts'
import { startServer } from '../support/server.ts'
import { startStandby, untilCaughtUp } from '../support/standby.ts'
import { urlOf } from '../support/template.ts'

const server = await startServer()
const database = await createTestDatabase({ on: server.connectionString })

test('after a failover, a tracker stores what it kept and a worker flushes it, through an address that moves to the new primary', async () => {
  const [before, lost, during] = await createWorkspaces(database.pool, 3)
  const standby = await startStandby(server)
  const address = await startMovingAddress(database.connectionString)
  const log = collectLog()
  await using worker = await startFlushWorker({
    database: address.connectionString,
    logger: log.logger,
    flushIntervalSeconds: 1,
  })
  const usedAt = await storeClosedMarks(database.pool, [before!])
  await until(
    'the first mark is flushed',
    async () => (await lastUsedAt(database.pool, [before!]))[0] !== null,
  )
  // Its period does not end before the failover.
  await storeClosedMarks(database.pool, [lost!], { agoMs: -3_600_000 })
  await untilCaughtUp(database.pool, poolOf(standby.connectionString))

  await server.shutDown('immediate')
  await using tracker = new UsageTracker(poolOf(address.connectionString, null), {
    source: 'ssh',
    logger: log.logger,
  })
  const marked = new Date()
  tracker.mark(during!)
  await until(
    'the tracker and the worker tell the outage',
    () =>
      log.find('marks failed to be stored').length > 0 &&
      log.find('the database is out of reach').length === 1,
    { timeoutMs: 60_000 },
  )

  const promoted = poolOf(standby.connectionString)
  await promoted.query('SELECT pg_promote()')
  await promoted.query(`CREATE OR REPLACE FUNCTION usage_period() RETURNS interval LANGUAGE sql STABLE
    RETURN interval '0.1 seconds'`)
  address.moveTo(standby.connectionString)
  await until(
    'the mark made during the outage is flushed',
    async () => (await lastUsedAt(promoted, [during!]))[0]! >= marked,
    { timeoutMs: 90_000 },
  )
  await until('the loss is told', () => log.find('pending_usage was emptied').length === 1)
  assert.match(log.find('pending_usage was emptied')[0]!.message, /by the promotion of a standby/)
  assert.deepEqual(await lastUsedAt(promoted, [before!, lost!]), [usedAt, null])
  assert.equal(log.find('the database is within reach again').length, 1)
  await worker.stop()
  await server.startUp()
})

/** A pool on the test's database of a server. A lost connection is no error of the test. */
function poolOf(connectionString: string, name: string | null = database.name): pg.Pool {
  const pool = heardPool({
    connectionString: name === null ? connectionString : urlOf(connectionString, name),
  })
  pool.on('error', () => {})
  atEnd(() => pool.end())
  return pool
}
