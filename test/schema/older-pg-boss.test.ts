import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PgBoss } from 'pg-boss'
import { migrate } from '../../src/schema/migrate.ts'
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts'
import { installOlderPgBoss, OLDER_PG_BOSS } from '../support/older-pg-boss.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { until } from '../support/poll.ts'
import { catalogObjects } from '../support/schema-dump.ts'

for (const version of OLDER_PG_BOSS) {
  testOnBothVersions(
    `migrate upgrades the schema of pg-boss ${version} with all its indexes, and keeps the host's jobs`,
    async database => {
      const { connectionString, pool } = database
      await installOlderPgBoss(database, version)

      await migrate({ connectionString })

      assert.deepEqual(await unfinished(database), [])
      const boss = new PgBoss({ connectionString, supervise: false, schedule: false })
      const drift = await boss.start().then(() => boss.detectSchemaDrift())
      assert.deepEqual(drift.invalid, [])
      assert.deepEqual(drift.missing, [])
      const [job] = await boss.fetch('mails')
      await boss.stop({ graceful: false })
      assert.deepEqual(job?.data, { a: 1 })
      const queues = await pool.query("SELECT FROM pgboss.queue WHERE name = 'workspace-usage-flush'")
      assert.equal(queues.rowCount, 1)
    },
  )
}

testOnBothVersions('migrate has no snapshot open while an index of pg-boss is built', async database => {
  const { connectionString, pool } = database
  await installOlderPgBoss(database, '11.1.1')
  const reader = await openSnapshot(database)

  const migration = migrate({ connectionString })

  await untilBuildWaits(database)
  // Each of these connections runs a statement from time to time, and has a snapshot for that moment.
  await until('all connections but the builder have no snapshot', async () => {
    const { rows } = await pool.query(
      `SELECT state, backend_xmin::text AS xmin FROM pg_stat_activity
       WHERE datname = current_database() AND application_name = 'workspace-usage migrate'
         AND query !~ 'INDEX CONCURRENTLY' AND state <> 'active'`,
    )
    return (
      rows.some(({ state }) => state === 'idle in transaction') && rows.every(({ xmin }) => xmin === null)
    )
  })
  await reader.query('ROLLBACK')
  await migration
})

test('migrate says for which transactions an index waits, and waits for them', async () => {
  const database = await createEmptyDatabase()
  await installOlderPgBoss(database, '11.1.1')
  const reader = await openSnapshot(database)
  const warnings: Record<string, unknown>[] = []
  const logger = { debug() {}, info() {}, error() {}, warn: (fields: object) => warnings.push({ ...fields }) }

  const migration = migrate({ connectionString: database.connectionString, logger })

  await until('it says what it waits for', () => warnings.length, { timeoutMs: 20_000 })
  const [{ blockers }] = warnings as [{ blockers: string[] }]
  assert.ok(
    blockers.some(blocker => blocker.startsWith(`pid ${reader.processID} `)),
    String(blockers),
  )
  await reader.query('ROLLBACK')
  await migration
})

testOnBothVersions(
  'migrate finishes the index at which an earlier run was killed, and rebuilds one that is invalid',
  async database => {
    const { connectionString, pool } = database
    await installOlderPgBoss(database, '11.1.1')
    const reader = await openSnapshot(database)
    const first = migrate({ connectionString })
    const interrupted = assert.rejects(first)
    const builder = await untilBuildWaits(database)
    // All connections of the first run end at once, as if its process was killed while its host went away.
    await pool.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE datname = current_database() AND application_name = 'workspace-usage migrate'`,
    )
    await interrupted
    await until('the builder is gone', async () => {
      const { rowCount } = await pool.query('SELECT FROM pg_stat_activity WHERE pid = $1', [builder])
      return rowCount === 0
    })
    // What a killed process leaves: pg-boss could not note the failure.
    await pool.query(
      "UPDATE pgboss.bam SET status = 'in_progress', started_on = now() - interval '11 s' WHERE status = 'failed'",
    )
    await reader.query('ROLLBACK')

    await migrate({ connectionString })

    assert.deepEqual(await unfinished(database), [])
    const { rows } = await pool.query('SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid')
    assert.deepEqual(rows, [])
  },
)

testOnBothVersions(
  'migrate refuses a pg-boss that is too old or too new before it creates anything',
  async database => {
    const { connectionString, pool } = database
    await installOlderPgBoss(database, '12.30.0')
    const before = await catalogObjects(pool)
    for (const version of [20, 9_999]) {
      await pool.query('UPDATE pgboss.version SET version = $1', [version])
      await assert.rejects(migrate({ connectionString }), { name: 'QueueSchemaError', version })
      assert.deepEqual(await catalogObjects(pool), before)
    }
  },
)

async function openSnapshot(database: TestDatabase) {
  const reader = await database.connect()
  await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
  await reader.query('SELECT 1')
  return reader
}

/** @returns The process id of the backend that builds. */
async function untilBuildWaits({ pool }: TestDatabase): Promise<number> {
  return await until('an index waits for older transactions', async () => {
    const { rows } = await pool.query(
      `SELECT pid FROM pg_stat_activity
       WHERE datname = current_database() AND query ~ '^\\s*CREATE.*INDEX CONCURRENTLY' AND wait_event = 'virtualxid'`,
    )
    return (rows[0] as { pid: number } | undefined)?.pid
  })
}

async function unfinished({ pool }: TestDatabase): Promise<unknown[]> {
  return (await pool.query("SELECT status, command, error FROM pgboss.bam WHERE status <> 'completed'")).rows
}

testOnBothVersions(
  'migrate runs interrupted commands of pg-boss in their order, so that no index comes back which a later one drops',
  async database => {
    const { connectionString, pool } = database
    await installOlderPgBoss(database, '11.1.1')
    await migrate({ connectionString })
    for (const status of ['in_progress', 'failed']) {
      const { rowCount } = await pool.query(
        `UPDATE pgboss.bam SET status = $1, started_on = now() - interval '11 s', completed_on = NULL
         WHERE command ~ 'CREATE INDEX CONCURRENTLY.*_i5'`,
        [status],
      )
      assert.ok(rowCount)
      await pool.query(
        `UPDATE pgboss.bam SET status = 'pending' WHERE command ~ 'DROP INDEX'
         AND version = (SELECT max(version) FROM pgboss.bam WHERE command ~ 'DROP INDEX.*_i5')`,
      )

      await migrate({ connectionString })

      assert.deepEqual(await unfinished(database), [])
      const { rows } = await pool.query("SELECT relname FROM pg_class WHERE relname ~ '_i5$'")
      assert.deepEqual(rows, [])
    }
  },
)
