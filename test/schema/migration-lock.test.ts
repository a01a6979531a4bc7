import assert from 'node:assert/strict'
import { test } from 'node:test'
import { grantPrivileges } from '../../src/access/grant.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { migrateDown } from '../../src/schema/migrate-down.ts'
import { uninstall } from '../../src/schema/uninstall.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { until } from '../support/poll.ts'
import { createLoginRole } from '../support/roles.ts'
import { schemaDump } from '../support/schema-dump.ts'
import { testServer } from '../support/test-server.ts'

testOnBothVersions('eight first migrations at once make the schema once', async database => {
  const { connectionString, pool } = database
  const results = await Promise.all(Array.from({ length: 8 }, () => migrate({ connectionString })))
  assert.equal(results.filter(({ applied }) => applied.length > 0).length, 1)
  assert.equal(results.filter(({ workspacesCreated }) => workspacesCreated).length, 1)
  assert.notEqual(await schemaDump(pool), '')
})

testOnBothVersions('a migration that waits says so once, and waits without a transaction', async database => {
  const { connectionString, pool } = database
  await migrate({ connectionString })
  const holder = await database.connect()
  await holder.query('BEGIN; SELECT FROM workspace_usage_migration_lock FOR UPDATE')
  const lines: string[] = []
  const logger = { debug() {}, warn() {}, error() {}, info: (_: object, line: string) => lines.push(line) }

  const waiting = [migrate({ connectionString, logger }), migrateDown({ connectionString, logger })]

  await until('both wait', () => lines.length === 2)
  // A try is short. So in most of many looks no waiter has a transaction, and none has an old one.
  const looks = await Promise.all(Array.from({ length: 20 }, (_, index) => ageOfOldest(database, index * 50)))
  assert.ok(looks.filter(age => age === null).length > 5, String(looks))
  assert.ok(
    looks.every(age => age === null || age < 2),
    String(looks),
  )
  assert.deepEqual(lines, Array(2).fill('another migration of this database is running; waiting for it'))
  await holder.query('ROLLBACK')
  await Promise.all(waiting)
  await migrate({ connectionString })
  assert.notEqual(await schemaDump(pool), '')
})

test('a role that may mark, work and read can hold no lock that blocks migrate or uninstall', async () => {
  const role = await createLoginRole(await testServer(), 'hostile')
  const database = await createTestDatabase()
  const { connectionString, pool } = database
  await grantPrivileges(pool, { markers: [role.name], workers: [role.name], readers: [role.name] })
  const hostile = await database.connect({ connectionString: role.connectionString(database) })
  const refused = [
    'SELECT FROM workspace_usage_migration_lock FOR UPDATE',
    'LOCK TABLE workspace_usage_migration_lock IN ACCESS SHARE MODE',
    'SELECT FROM workspace_usage_migration',
  ]
  for (const statement of refused) {
    await assert.rejects(hostile.query(`BEGIN; ${statement}`), { code: '42501' })
    await hostile.query('ROLLBACK')
  }
  // The advisory lock of older releases.
  await hostile.query('SELECT pg_advisory_lock(7023470895112047)')

  await migrate({ connectionString })
  await uninstall({ connectionString })
  assert.equal(await schemaDump(pool), '')
})

test('a migration waits for a first one that has not committed, and for an uninstall', async () => {
  const database = await createEmptyDatabase()
  const { connectionString } = database
  const first = await database.connect()
  await first.query(
    'BEGIN; CREATE TABLE workspace_usage_migration_lock (id varchar(255) PRIMARY KEY, is_locked int)',
  )
  const lines: string[] = []
  const logger = { debug() {}, warn() {}, error() {}, info: (_: object, line: string) => lines.push(line) }
  const migration = migrate({ connectionString, logger })
  await until('it waits', () =>
    lines.includes('another migration of this database is running; waiting for it'),
  )
  await first.query('ROLLBACK')
  assert.ok((await migration).applied.length > 0)

  const [uninstalled, migrated] = await Promise.all([
    uninstall({ connectionString }),
    migrate({ connectionString }).catch((error: Error) => error),
  ])
  assert.ok(uninstalled.dropped.includes('table public.pending_usage'))
  // The order is open. A migration whose tables are removed before it comes to the queue says so.
  if (migrated instanceof Error) assert.match(migrated.message, /removed workspace-usage|not migrated/)
  await migrate({ connectionString })
})

/** Seconds since the oldest transaction of a waiter began. Null if there is none. */
async function ageOfOldest({ pool }: TestDatabase, delayMs: number): Promise<number | null> {
  await pool.query('SELECT pg_sleep($1::float8 / 1000)', [delayMs])
  const { rows } = await pool.query(
    `SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float8 AS age FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'workspace-usage migrate'`,
  )
  return (rows[0] as { age: number | null }).age
}
