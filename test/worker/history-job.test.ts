import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { TestClock } from 'pg-boss'
import { grantPrivileges } from '../../src/access/grant.ts'
import { HISTORY_QUEUE } from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

/** A workspace with a row of history for each of these ages in days. */
async function useDaysAgo({ pool }: TestDatabase, ...ages: number[]): Promise<void> {
  const [id] = await createWorkspaces(pool, 1)
  await pool.query(
    `INSERT INTO workspace_usage_day (workspace_id, source, last_used_at, day, first_used_at, slots)
    SELECT $1, 'ssh', now() - make_interval(days => age), (now() AT TIME ZONE 'UTC')::date - age,
      now() - make_interval(days => age), (1)::bit(288)
    FROM unnest($2::int[]) AS age`,
    [id, ages],
  )
}

async function days({ pool }: TestDatabase): Promise<number> {
  const { rows } = await pool.query('SELECT count(*)::int AS days FROM workspace_usage_day')
  return rows[0].days
}

/** A job that the cron would send. */
async function sendJob({ pool }: TestDatabase, historyDays: number | null): Promise<void> {
  await pool.query(
    `INSERT INTO pgboss.job (name, data, policy, retry_limit, keep_until)
    VALUES ($1, $2, 'exclusive', 0, now() + interval '1 day')`,
    [HISTORY_QUEUE, historyDays === null ? null : JSON.stringify({ historyDays })],
  )
}

async function outputs({ pool }: TestDatabase): Promise<unknown[]> {
  const { rows } = await pool.query(
    "SELECT output FROM pgboss.job WHERE name = $1 AND state = 'completed' ORDER BY completed_on",
    [HISTORY_QUEUE],
  )
  return rows.map(({ output }) => output)
}

test('a worker with the privileges of its duty clears old history in a job of its own, whose output has the counts', async () => {
  const role = await createLoginRole(await testServer(), 'worker')
  const database = await createTestDatabase()
  await grantPrivileges(database.pool, { workers: [role.name] })
  await useDaysAgo(database, 0, 10, 29, 31, 400)
  await sendJob(database, null)
  const log = collectLog()
  {
    await using _worker = await startFlushWorker({
      database: role.connectionString(database),
      logger: log.logger,
    })
    await until('the job is done', async () => (await outputs(database)).length === 1)
  }
  assert.deepEqual(await outputs(database), [{ cleared: 2, orphans: 0, historyDays: 30 }])
  assert.equal(await days(database), 3)
  const [line] = log.find('cleared old history')
  assert.deepEqual([line!.fields.cleared, line!.fields.historyDays], [2, 30])
  const { rows } = await database.pool.query('SELECT cron, data FROM pgboss.schedule WHERE name = $1', [
    HISTORY_QUEUE,
  ])
  assert.deepEqual(rows, [{ cron: '17 3 * * *', data: { historyDays: 30 } }])
  await database.pool.query(`DROP OWNED BY ${pg.escapeIdentifier(role.name)}`)
})

test('the job says how many days are kept, whichever worker takes it', async () => {
  const database = await createTestDatabase()
  await useDaysAgo(database, 0, 1, 2, 3)
  await sendJob(database, 1)
  {
    await using _worker = await startFlushWorker({
      database: database.connectionString,
      logger: collectLog().logger,
      historyDays: 100,
    })
    await until('the job is done', async () => (await outputs(database)).length === 1)
  }
  assert.deepEqual(await outputs(database), [{ cleared: 2, orphans: 0, historyDays: 1 }])
})

test('a worker whose cron is due sends the job once a day, and so does one with a long poll', async () => {
  for (const pollSeconds of [2, 600]) {
    const database = await createTestDatabase()
    await useDaysAgo(database, 0, 40)
    const clock = new TestClock()
    {
      await using _worker = await startFlushWorker({
        database: database.connectionString,
        logger: collectLog().logger,
        pollSeconds,
        clock,
      })
      await until(`old history is cleared, with a poll of ${pollSeconds} s`, async () => {
        await clock.setTime(clock.now() + 1_800_000)
        await clock.tick(1)
        return (await days(database)) === 1
      })
    }
  }
})
