import assert from 'node:assert/strict'
import { test } from 'node:test'
import { destroyConnection } from '../../src/database/deadline.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { uninstall } from '../../src/schema/uninstall.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { countMigrationStatements } from '../support/migration-statements.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { until } from '../support/poll.ts'
import { catalogObjects, schemaDump } from '../support/schema-dump.ts'

/** test/soak/killed-migration.test.ts tries every place, with SIGKILL. */
const PLACES = 12

test('migrate finishes what a run left whose connections all broke between two statements', async () => {
  const whole = await createEmptyDatabase()
  const statements = countMigrationStatements()
  await migrate({ connectionString: whole.connectionString })
  statements.stop()
  const dump = await schemaDump(whole.pool)
  const objects = await catalogObjects(whole.pool)
  assert.ok(statements.count > PLACES)

  for (let place = 1; place <= statements.count; place += Math.ceil(statements.count / PLACES)) {
    const database = await createEmptyDatabase()
    await migrateUntil(place, database)
    await migrate({ connectionString: database.connectionString })
    assert.equal(await schemaDump(database.pool), dump, `broken before statement ${place}`)
    assert.deepEqual(await catalogObjects(database.pool), objects, `broken before statement ${place}`)
    await database.drop()
  }
})

test('a broken run of uninstall removes everything or nothing', async () => {
  const database = await createTestDatabase()
  const objects = await catalogObjects(database.pool)
  const statements = countMigrationStatements((statement, clients) => {
    if (statement === 20) clients.forEach(destroyConnection)
  })
  await assert.rejects(uninstall({ connectionString: database.connectionString }))
  statements.stop()
  assert.deepEqual(await catalogObjects(database.pool), objects)
  const { dropped } = await uninstall({ connectionString: database.connectionString })
  assert.ok(dropped.includes('schema pgboss'))
})

testOnBothVersions(
  'migrate fails with an error of its own, and the process lives, if the connection of its lock is terminated',
  async database => {
    const { connectionString, pool } = database
    // pg-boss waits for this transaction, while the lock is held by a transaction that has nothing to do.
    await migrate({ connectionString })
    const obstacle = await database.connect()
    await obstacle.query('BEGIN; LOCK TABLE pgboss.queue')
    const migration = migrate({ connectionString })
    const failed = assert.rejects(migration, {
      name: 'MigrationLockLostError',
      message: /^the connection that held the lock of migrations broke: .+ Run the command again/,
    })
    await until('pg-boss waits', async () => {
      const { rows } = await pool.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
         AND application_name = 'workspace-usage migrate'`,
      )
      return rows.length
    })
    const { rows } = await pool.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
       AND application_name = 'workspace-usage migrate' AND state = 'idle in transaction'`,
    )
    assert.equal(rows.length, 1)
    await obstacle.query('ROLLBACK')
    await failed
    await migrate({ connectionString })
  },
)

/** Breaks all connections of a run before its n-th statement, as the end of its process would. */
async function migrateUntil(place: number, { connectionString }: TestDatabase): Promise<void> {
  const statements = countMigrationStatements((statement, clients) => {
    if (statement === place) clients.forEach(destroyConnection)
  })
  try {
    await assert.rejects(migrate({ connectionString }))
  } finally {
    statements.stop()
  }
}
