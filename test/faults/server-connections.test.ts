import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { startServer } from '../support/server.ts'
import { type Load, startLoad } from './load.ts'
import { assertTold } from './resets.ts'

/*
 * The server has no connection left for the tracker and the workers (53300). They keep what they have, ask again with
 * pauses, and go on by themselves.
 */

const MAX_CONNECTIONS = 40
const OUTAGE_MS = 4_000
/** All attempts together: those of two workers, of a tracker, and two a second of the caller of markUsage. */
const MOST_ATTEMPTS_A_SECOND = 20

const server = await startServer({
  synchronous_commit: 'on',
  max_connections: String(MAX_CONNECTIONS),
  // So that this test finds the attempts.
  log_line_prefix: '[%e %u] ',
})

test('marks are kept and flushes go on by themselves after strangers had taken all connections of the server', async t => {
  await isOutOfConnections(t, async database => {
    const strangers: pg.Client[] = []
    const take = async () => {
      const client = new pg.Client({ connectionString: database.connectionString })
      client.on('error', () => {})
      await client.connect()
      strangers.push(client)
    }
    // The last three places are a superuser's, as the strangers are.
    await until('there is no place for others', async () => {
      await endConnections(database)
      await take().catch(() => {})
      return strangers.length >= MAX_CONNECTIONS - 5 ? await isFull(database) : false
    })
    return () => Promise.all(strangers.map(client => client.end()))
  })
})

test('marks are kept and flushes go on by themselves after their role had a limit of connections', async t => {
  await isOutOfConnections(t, async database => {
    await database.pool.query('ALTER ROLE application CONNECTION LIMIT 0')
    await endConnections(database)
    return () => database.pool.query('ALTER ROLE application CONNECTION LIMIT -1')
  })
})

async function isOutOfConnections(
  t: TestContext,
  takeAll: (database: TestDatabase) => Promise<() => Promise<unknown>>,
): Promise<void> {
  const database = await createTestDatabase({ on: server.connectionString })
  const { pool } = database
  const load = await startLoad(database, { through: await application(database) })
  await load.untilFlushedAgain(pool)
  load.measureGapFromNow()
  const refusedBefore = refusals()
  const giveBack = await takeAll(database)
  await until('the outage is told', () => outageIsTold(load), { timeoutMs: 30_000 })
  const since = { refused: refusals(), time: performance.now() }
  await delay(OUTAGE_MS)
  const seconds = (performance.now() - since.time) / 1_000
  const attempts = (refusals() - since.refused) / seconds
  assert.ok(refusals() > refusedBefore, 'the server refused connections')
  await giveBack()
  const recovery = await load.untilFlushedAgain(pool)
  const words = `recovered in ${recovery.toFixed(1)} s, tracker gap ${load.trackerGapSeconds.toFixed(1)} s`
  assert.equal(
    await load.judge(t, pool, { recovery: `${words}, ${attempts.toFixed(1)} attempts a second` }),
    0,
  )
  assert.ok(attempts < MOST_ATTEMPTS_A_SECOND, `${attempts} attempts a second`)
  assert.equal(load.log.find('the database is out of reach').length, load.workers.length)
  assert.equal(load.log.find('the database is within reach again').length, load.workers.length)
  await assertTold(pool, load, 0)
}

function outageIsTold({ log, workers }: Load): boolean {
  return (
    log.find('marks failed to be stored').length > 0 &&
    log.find('the database is out of reach').length === workers.length
  )
}

/** A role that is no superuser, and may do what markers and workers do. */
async function application({ pool, connectionString }: TestDatabase): Promise<string> {
  await pool.query(`
    DO $$ BEGIN CREATE ROLE application LOGIN PASSWORD 'application'; EXCEPTION WHEN duplicate_object THEN END $$;
    GRANT USAGE ON SCHEMA public, pgboss TO application;
    GRANT ALL ON ALL TABLES IN SCHEMA public, pgboss TO application;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA pgboss TO application`)
  return Object.assign(new URL(connectionString), { username: 'application', password: 'application' }).href
}

async function endConnections({ pool }: TestDatabase): Promise<void> {
  await pool.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'application' AND datname = current_database()",
  )
}

async function isFull({ pool }: TestDatabase): Promise<boolean> {
  const { rows } = await pool.query(
    `SELECT count(*) FILTER (WHERE usename = 'application') = 0 AND
      count(*) >= current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS full
    FROM pg_stat_activity WHERE backend_type = 'client backend'`,
  )
  return rows[0].full
}

/** How many connections the server has refused, because it or the role had no place left. */
function refusals(): number {
  return readFileSync(server.logFile, 'utf8').split('[53300 ').length - 1
}
