import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TestClock } from 'pg-boss'
import { createPool, type OwnedPool } from '../../src/database/pool.ts'
import type { Clock } from '../../src/worker/clock.ts'
import { SYSTEM_CLOCK } from '../../src/worker/poll.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

/** A pool that counts how often a client is taken from it. A worker takes one for each statement or job. */
function countTakes(connectionString: string, max = 5): OwnedPool & { takes: number } {
  const pool = createPool(connectionString, { applicationName: 'test', max }) as OwnedPool & {
    takes: number
  }
  pool.takes = 0
  const { connect } = pool
  pool.connect = ((...parameters: []) => {
    pool.takes++
    return connect.apply(pool, parameters)
  }) as typeof connect
  return pool
}

/** A clock that runs so many times as fast. The database's does not. */
function fastClock(times: number): Clock {
  const start = Date.now()
  return {
    ...SYSTEM_CLOCK,
    now: () => start + (Date.now() - start) * times,
    setTimeout: (run, ms) => SYSTEM_CLOCK.setTimeout(run, ms / times),
    setInterval: (run, ms) => SYSTEM_CLOCK.setInterval(run, ms / times),
  }
}

test('a worker with a long poll leaves the database alone until its turn, and then flushes', async () => {
  const database = await createTestDatabase()
  const pool = countTakes(database.connectionString)
  const clock = fastClock(20)
  const log = collectLog()
  {
    await using _worker = await startFlushWorker({
      database: pool,
      logger: log.logger,
      pollSeconds: 100,
      clock,
    })
    await until('the first flush', () => log.find('nothing to flush').length === 1)
    const [id] = await createWorkspaces(database.pool, 1)
    await storeClosedMarks(database.pool, [id!])
    const { takes } = pool
    const started = clock.now()
    await until('somebody asks the database', () => pool.takes > takes)
    assert.ok(clock.now() - started > 80_000, 'nothing is asked before the turn')
    await until('the turn flushes', () => log.find('updated workspaces last_used_at').length === 1)
    await until('the turn is over', async () => {
      const { rows } = await database.pool.query(
        "SELECT min(maintain_on) > now() - interval '1 minute' AS is FROM pgboss.queue",
      )
      return rows[0].is
    })
  }
  assert.deepEqual(
    log.lines.filter(({ level }) => level === 'warn' || level === 'error'),
    [],
  )
  await pool.end()
})

test('of the turns of several workers, one sends the job of an interval', async () => {
  const database = await createTestDatabase()
  const pool = countTakes(database.connectionString, 8)
  const log = collectLog()
  const options = { pollSeconds: 6, flushIntervalSeconds: 3_600, clock: fastClock(20) }
  const start = () => startFlushWorker({ database: pool, logger: log.logger, ...options })
  {
    await using _one = await start()
    await using _other = await start()
    await until('both have taken ten turns', () => pool.takes > 120)
  }
  const { rows } = await database.pool.query(
    "SELECT count(*)::int AS jobs FROM pgboss.job WHERE singleton_key = 'schedule'",
  )
  // Two if an hour of the database begins meanwhile.
  assert.ok(rows[0].jobs >= 1 && rows[0].jobs <= 2, `${rows[0].jobs} jobs`)
  assert.deepEqual(
    log.lines.filter(({ level }) => level === 'warn' || level === 'error'),
    [],
  )
  await pool.end()
})

test('a worker whose turn finds no database tries again soon, and its next turns flush', async () => {
  const database = await createTestDatabase()
  const clock = new TestClock()
  const log = collectLog()
  await using _worker = await startFlushWorker({
    database: database.connectionString,
    logger: log.logger,
    pollSeconds: 600,
    clock,
  })
  await until('the first flush', () => log.find('nothing to flush').length === 1)
  await database.pool.query('ALTER TABLE pgboss.schedule RENAME TO schedule_elsewhere')
  await until('the turn fails', async () => {
    await clock.tick(10_000)
    return log.find('flush jobs can not be taken; it is tried again').length === 1
  })
  await database.pool.query('ALTER TABLE pgboss.schedule_elsewhere RENAME TO schedule')
  const flushes = log.find('nothing to flush').length
  const failedAt = clock.now()
  await until('it flushes again', async () => {
    await clock.tick(1_000)
    return log.find('nothing to flush').length > flushes
  })
  assert.ok(clock.now() - failedAt < 300_000, 'it does not wait for the whole poll')
})
