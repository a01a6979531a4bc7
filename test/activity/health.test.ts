import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { type HealthOptions, usageHealth } from '../../src/activity/health.ts'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { FAILED_FLUSH_QUEUE, FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'

/** A problem, and how it comes and goes. */
interface Case {
  name: string
  /** The codes of the verdict, with the severity of each. */
  told: string[]
  options?: HealthOptions
  /** Makes the reason. Returns what takes it away. */
  make(database: TestDatabase): Promise<() => Promise<unknown>>
  /** A reason that is not enough, by a second or by one. It is made first. */
  almost?(database: TestDatabase): Promise<unknown>
}

const isWell = async () => {}

async function store(database: TestDatabase, agoSeconds: number, source = 'test'): Promise<void> {
  const ids = await createWorkspaces(database.pool, 1)
  await storeClosedMarks(database.pool, ids, { agoMs: agoSeconds * 1_000, source })
}

async function seenLast({ pool }: TestDatabase, agoSeconds: number): Promise<void> {
  await pool.query(
    `UPDATE pgboss.queue SET created_on = clock_timestamp() - make_interval(secs => $1) WHERE name = $2`,
    [agoSeconds, FLUSH_QUEUE],
  )
}

async function failJobs({ pool }: TestDatabase, retries: number): Promise<void> {
  await pool.query(
    `INSERT INTO pgboss.job (name, state, retry_count, started_on, output)
    VALUES ($1, 'retry', $2, clock_timestamp(), '{"message": "no such luck"}')`,
    [FLUSH_QUEUE, retries],
  )
}

async function setRegular({ pool }: TestDatabase, lastSeconds: number, regularSeconds: number) {
  await pool.query(
    `UPDATE source_usage SET last_used_at = statement_timestamp() - make_interval(secs => $1),
      regular_since = statement_timestamp() - make_interval(secs => $1) - make_interval(secs => $2)`,
    [lastSeconds, regularSeconds],
  )
}

const DAY = 86_400

const CASES: Case[] = [
  {
    name: 'a lag above three minutes',
    told: ['critical lag'],
    almost: database => store(database, 165),
    make: async database => {
      await store(database, 181)
      return () => drain(database.pool)
    },
  },
  {
    name: 'no flush and no job for three minutes, though nothing is pending',
    told: ['critical no-worker'],
    almost: database => seenLast(database, 165),
    make: async database => {
      await seenLast(database, 181)
      return () => flush(database.pool)
    },
  },
  {
    name: 'no flush and no job for an hour and two minutes, if the schedule is hourly',
    told: ['critical no-worker'],
    almost: async database => {
      await database.pool.query(
        `UPDATE pgboss.schedule SET cron = '0 * * * *', data = '{"intervalSeconds": 3600}'`,
      )
      await seenLast(database, 3_705)
    },
    make: async database => {
      await seenLast(database, 3_721)
      return () => flush(database.pool)
    },
  },
  {
    name: 'a flush that has failed once',
    told: ['warning flushes-fail'],
    make: async database => {
      await failJobs(database, 0)
      return () => flush(database.pool)
    },
  },
  {
    name: 'a flush that has failed three times',
    told: ['critical flushes-fail'],
    make: async database => {
      await failJobs(database, 2)
      return () => flush(database.pool)
    },
  },
  {
    name: 'a job in the dead-letter queue that is newer than the last flush',
    told: ['warning failed-jobs'],
    make: async database => {
      await flush(database.pool)
      await database.pool.query('INSERT INTO pgboss.job (name) VALUES ($1)', [FAILED_FLUSH_QUEUE])
      return () => flush(database.pool)
    },
  },
  {
    name: 'a workspace whose update a check refuses',
    told: ['warning refused'],
    make: async database => {
      await store(database, 1)
      await database.pool.query('ALTER TABLE workspaces ADD CONSTRAINT odd CHECK (id IS NULL) NOT VALID')
      await flush(database.pool)
      return async () => {
        await database.pool.query('ALTER TABLE workspaces DROP CONSTRAINT odd')
        await drain(database.pool, { retryRefused: true })
      }
    },
  },
  {
    name: 'a mark that is held for ten minutes',
    told: ['warning held'],
    almost: async database => {
      await store(database, 585)
      await using holder = await openTransaction(database)
      await holder.client.query('SELECT FROM workspaces FOR UPDATE')
      await flush(database.pool)
    },
    make: async database => {
      await store(database, 601)
      await using holder = await openTransaction(database)
      await holder.client.query('SELECT FROM workspaces FOR UPDATE')
      assert.equal((await flush(database.pool)).held, 2)
      return () => flush(database.pool)
    },
  },
  {
    name: 'marks of which nearly all are of unknown workspaces',
    told: ['warning unknown'],
    almost: async database => {
      await storeClosedMarks(database.pool, [randomUUID(), randomUUID()], { agoMs: 700_000 })
      await flush(database.pool)
    },
    make: async database => {
      await storeClosedMarks(database.pool, [randomUUID(), randomUUID(), randomUUID()], { agoMs: 700_000 })
      await flush(database.pool)
      return async () => {
        await store(database, 1)
        await flush(database.pool)
      }
    },
  },
  {
    name: 'unknown workspaces whose marks are still awaited',
    told: ['warning unknown'],
    make: async database => {
      await storeClosedMarks(database.pool, [randomUUID(), randomUUID(), randomUUID()])
      await flush(database.pool)
      return () => database.pool.query('TRUNCATE set_aside_usage')
    },
  },
  {
    name: 'a reset within the last day',
    told: ['warning reset'],
    almost: ({ pool }) =>
      pool.query(`INSERT INTO pending_usage_reset VALUES (clock_timestamp() - interval '86401 s')`),
    make: async ({ pool }) => {
      await pool.query('TRUNCATE pending_usage, pending_usage_witness')
      await flush(pool)
      return () =>
        pool.query(
          `UPDATE pending_usage_reset SET noticed_at = noticed_at - interval '86401 s' WHERE noticed_at > now() - interval '1 h'`,
        )
    },
  },
  {
    name: 'a queue with other retries',
    told: ['warning queue'],
    make: async ({ pool, connectionString }) => {
      await pool.query('UPDATE pgboss.queue SET retry_limit = 0 WHERE name = $1', [FLUSH_QUEUE])
      return () => migrate({ connectionString })
    },
  },
  {
    name: 'a queue without its dead-letter queue',
    told: ['warning queue'],
    make: async ({ pool, connectionString }) => {
      await pool.query('UPDATE pgboss.queue SET dead_letter = NULL WHERE name = $1', [FLUSH_QUEUE])
      return () => migrate({ connectionString })
    },
  },
  {
    name: 'a queue with another policy',
    told: ['critical queue'],
    make: async ({ pool, connectionString }) => {
      await pool.query(`UPDATE pgboss.queue SET policy = 'stately' WHERE name = $1`, [FLUSH_QUEUE])
      return async () => {
        const { problems } = await usageHealth(pool)
        await pool.query(/SELECT \S+\)/.exec(problems[0]!.remedy)![0])
        await migrate({ connectionString })
      }
    },
  },
  {
    name: 'queues that were deleted',
    told: ['critical queue', 'critical queue'],
    make: async ({ pool, connectionString }) => {
      await flush(pool)
      for (const queue of [FLUSH_QUEUE, FAILED_FLUSH_QUEUE])
        await pool.query('SELECT pgboss.delete_queue($1)', [queue])
      return () => migrate({ connectionString })
    },
  },
  {
    name: 'a schedule that was deleted',
    told: ['critical schedule'],
    make: async ({ pool, connectionString }) => {
      await pool.query('DELETE FROM pgboss.schedule')
      return () => migrate({ connectionString })
    },
  },
  {
    name: 'a schedule with another cron expression',
    told: ['warning schedule'],
    make: async ({ pool, connectionString }) => {
      await pool.query(`UPDATE pgboss.schedule SET cron = '0 4 * * *'`)
      return () => migrate({ connectionString })
    },
  },
  {
    name: 'a schedule without its interval',
    told: ['warning schedule'],
    make: async ({ pool, connectionString }) => {
      await pool.query('UPDATE pgboss.schedule SET data = NULL')
      return () => migrate({ connectionString })
    },
  },
  {
    name: 'a table of marks that is not UNLOGGED',
    told: ['warning logged-marks'],
    make: async ({ pool }) => {
      await pool.query('ALTER TABLE pending_usage SET LOGGED')
      const { ok } = await usageHealth(pool, { loggedMarks: true })
      assert.ok(ok, 'it is declared')
      return () => pool.query('ALTER TABLE pending_usage SET UNLOGGED')
    },
  },
  {
    name: 'a transaction that has written and is open for a second',
    told: ['warning old-transaction'],
    options: { oldTransactionSeconds: 1 },
    make: async database => {
      const client = await database.connect({ application_name: 'report' })
      await client.query('BEGIN; SELECT pg_current_xact_id()')
      await until(
        'it is a second old',
        async () => !(await usageHealth(database.pool, { oldTransactionSeconds: 1 })).ok,
      )
      return () => client.query('COMMIT')
    },
  },
  {
    name: 'a table of marks that is much larger than its rows',
    told: ['warning bloat'],
    options: { bloatBytes: 200_000 },
    make: async ({ pool }) => {
      await pool.query(
        `INSERT INTO pending_usage (workspace_id) SELECT gen_random_uuid() FROM generate_series(1, 3000)`,
      )
      const { ok } = await usageHealth(pool, { bloatBytes: 200_000 })
      assert.ok(ok, 'it is large because it holds much')
      await pool.query('DELETE FROM pending_usage')
      // The table's own settings keep VACUUM from giving the file back. It must be told to.
      return async () => {
        await pool.query('VACUUM (TRUNCATE) pending_usage')
        await pool.query('REINDEX TABLE CONCURRENTLY pending_usage')
      }
    },
  },
  {
    name: 'a mark of a period that ends too far ahead, until it is deleted as the message says',
    told: ['warning future-marks'],
    almost: ({ pool }) =>
      pool.query(
        `INSERT INTO pending_usage (period_end, workspace_id) VALUES (now() + interval '23 hours', gen_random_uuid())`,
      ),
    make: async ({ pool }) => {
      await pool.query(`INSERT INTO pending_usage (period_end, workspace_id) VALUES
        (now() + interval '1 year', gen_random_uuid()), ('infinity', gen_random_uuid())`)
      const { problems } = await usageHealth(pool)
      const remedy = problems.find(({ code }) => code === 'future-marks')!.remedy
      return () => pool.query(/DELETE FROM .*(?=\.$)/.exec(remedy)![0])
    },
  },
  {
    name: 'a source that was regular for a day and is silent for an hour',
    told: ['warning silent-source'],
    almost: async database => {
      await store(database, 1)
      await flush(database.pool)
      await setRegular(database, 3_585, DAY + 1)
    },
    make: async database => {
      await setRegular(database, 3_601, DAY + 1)
      return async () => {
        await store(database, 1)
        await flush(database.pool)
      }
    },
  },
  {
    name: 'a regular source that is silent, until it is retired',
    told: ['warning silent-source'],
    almost: async database => {
      await store(database, 1)
      await flush(database.pool)
      await setRegular(database, 3_601, DAY - 15)
    },
    make: async database => {
      await setRegular(database, 7_200, DAY)
      return () => database.pool.query('DELETE FROM source_usage')
    },
  },
]

async function verdict({ pool }: TestDatabase, options?: HealthOptions): Promise<string[]> {
  const { problems } = await usageHealth(pool, options)
  for (const { message, remedy } of problems) assert.ok(message.length > 20 && remedy.length > 10, message)
  return problems.map(({ severity, code }) => `${severity} ${code}`)
}

async function comesAndGoes(
  database: TestDatabase,
  { told, options, almost = isWell, make }: Case,
): Promise<void> {
  // The template may be old, and nobody has flushed since.
  await seenLast(database, 0)
  assert.deepEqual(await verdict(database, options), [], 'a database that is well')
  await almost(database)
  assert.deepEqual(await verdict(database, options), [], 'almost a problem')
  const takeAway = await make(database)
  assert.deepEqual(await verdict(database, options), told)
  await takeAway()
  assert.deepEqual(await verdict(database, options), [], 'the reason is gone')
}

for (const one of CASES) {
  test(`the verdict tells ${one.name}, and nothing else, as long as that lasts`, async () => {
    await using database = await createTestDatabase()
    await comesAndGoes(database, one)
  })
  test(`on PostgreSQL 15, the verdict tells ${one.name}, as long as that lasts`, t =>
    onPostgres15(t, database => comesAndGoes(database, one)))
}

test('the verdict puts critical problems first, and tells all at once', async () => {
  await using database = await createTestDatabase()
  await store(database, 1)
  await flush(database.pool)
  await setRegular(database, 7_200, DAY)
  await database.pool.query('TRUNCATE pending_usage_witness')
  await flush(database.pool)
  await store(database, 500)
  const health = await usageHealth(database.pool)
  assert.deepEqual(
    health.problems.map(({ code }) => code),
    ['lag', 'reset'],
    'a pending mark shows that its source is there',
  )
  assert.deepEqual([health.ok, health.critical, health.resets], [false, true, 1])
  assert.deepEqual(health.completeSince, health.lastResetAt)
  await database.pool.query(`UPDATE pending_usage SET source = 'another'`)
  assert.deepEqual(await verdict(database), ['critical lag', 'warning reset', 'warning silent-source'])
})
