import assert from 'node:assert/strict'
import { test } from 'node:test'
import type pg from 'pg'
import type { EmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { startMovingAddress } from '../support/moving-address.ts'
import { until } from '../support/poll.ts'
import { startServer } from '../support/server.ts'
import { startStandby } from '../support/standby.ts'
import { urlOf } from '../support/template.ts'
import { startLoad } from './load.ts'
import { assertTold, untilToldOnce } from './resets.ts'

/*
 * The primary crashes under load, its standby is promoted, and the address of both moves. Pending marks are not
 * replicated. What was flushed is as safe as the replication is: with a synchronous standby nothing of it is lost.
 */

test('with a synchronous standby that is promoted under load, nothing flushed is lost, the loss of pending marks is told once, and all goes on by itself', async t => {
  const server = await startServer({ synchronous_commit: 'on' })
  const database = await createTestDatabase({ on: server.connectionString })
  const { pool } = database
  const standby = await startStandby(server)
  await makeSynchronous(server, pool)
  const promoted = heardPool({ connectionString: urlOf(standby.connectionString, database.name), max: 2 })
  atEnd(() => promoted.end())
  const address = await startMovingAddress(database.connectionString)
  const load = await startLoad(database, { through: address.connectionString })
  await load.untilFlushedAgain(pool)
  load.measureGapFromNow()

  const flushed = await load.flushed(pool)
  await server.shutDown('immediate')
  await until(
    'all workers tell the outage',
    () => load.log.find('the database is out of reach').length === load.workers.length,
    { timeoutMs: 30_000 },
  )
  await promoted.query('SELECT pg_promote()')
  assert.deepEqual(
    await missing(flushed, () => load.flushed(promoted)),
    [],
    'all that was flushed had been replicated',
  )
  address.moveTo(standby.connectionString)
  const seconds = await load.untilFlushedAgain(promoted, 60_000)
  const gap = load.trackerGapSeconds
  const completeSince = await untilToldOnce(promoted, load, 'promotion')
  assert.deepEqual(await missing(flushed, () => load.flushed(promoted)), [], 'nothing has moved backwards')
  const words = `a worker is back ${seconds.toFixed(1)} s after the switch, tracker gap ${gap.toFixed(1)} s`
  await load.judge(t, promoted, { lostBefore: completeSince, recovery: words })
  await assertTold(promoted, load, 1)
  assert.equal(load.log.find('the database is within reach again').length, load.workers.length)
  // The test's database is dropped there, and no standby is left to wait for.
  await server.startUp()
  await pool.query('ALTER SYSTEM RESET synchronous_standby_names')
  await pool.query('SELECT pg_reload_conf()')
})

async function makeSynchronous(server: EmbeddedPostgres, pool: pg.Pool): Promise<void> {
  await pool.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
  await pool.query('SELECT pg_reload_conf()')
  await until(`the standby of ${server.port} is synchronous`, async () => {
    const { rows } = await pool.query("SELECT FROM pg_stat_replication WHERE sync_state = 'sync'")
    return rows.length === 1
  })
}

/** What was flushed and is not there, or is earlier. */
async function missing(
  flushed: ReadonlyMap<string, Date>,
  now: () => Promise<Map<string, Date>>,
): Promise<string[]> {
  const there = await now()
  return [...flushed].filter(([id, time]) => !(there.get(id)! >= time)).map(([id]) => id)
}
