import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { Kysely, PostgresDialect } from 'kysely'
import { type MigrationProvider, Migrator } from 'kysely/migration'
import { pendingStatus } from '../../src/activity/status.ts'
import { createPool } from '../../src/database/pool.ts'
import { drain } from '../../src/flush/drain.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { migrateDown } from '../../src/schema/migrate-down.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
import { majorVersion } from '../support/major-version.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { startProgram } from '../support/process.ts'
import { schemaDump } from '../support/schema-dump.ts'

const SCHEMA_FILE = path.join(import.meta.dirname, '../schema.sql')
const MIGRATIONS = readdirSync(path.join(import.meta.dirname, '../../migrations'))
  .map(file => path.basename(file, '.ts'))
  .sort()

test('migrate makes the schema that is in test/schema.sql', async () => {
  const { pool } = await createTestDatabase()
  // Before 16, PostgreSQL names the table before a column also where there is only one.
  const names = (await majorVersion(pool)) < 16 ? /\b[a-z_]+\.(?=[a-z_]+)/g : ''
  assertSameText(
    (await schemaDump(pool)).replace(names, ''),
    readFileSync(SCHEMA_FILE, 'utf8').replace(names, ''),
    'If the migrations are right, rewrite the file: npm run test:update-schema',
  )
})

test('migrateDown takes the schema back one migration at a time until nothing is left, and migrate makes the same schema again', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  const { applied } = await migrate({ connectionString })
  const dump = await schemaDump(pool)
  assert.deepEqual(applied, MIGRATIONS)

  const reverted: string[] = []
  let newest = await migrateDown({ connectionString })
  while (newest !== null) {
    reverted.push(newest)
    newest = await migrateDown({ connectionString })
  }
  assert.deepEqual(reverted, MIGRATIONS.toReversed())
  assert.equal(await schemaDump(pool), '')

  assert.deepEqual((await migrate({ connectionString })).applied, MIGRATIONS)
  assert.equal(await schemaDump(pool), dump)
})

test('a second migrate changes neither the schema nor the schedule that a worker has set', async () => {
  const { connectionString, pool } = await createTestDatabase()
  const dump = await schemaDump(pool)
  await pool.query(`UPDATE pgboss.schedule SET cron = '*/5 * * * *', data = '{"intervalSeconds": 300}'`)

  const { applied, queue } = await migrate({ connectionString })

  assert.deepEqual(applied, [])
  assert.equal(queue.cron, '*/5 * * * *')
  assert.equal(await schemaDump(pool), dump)
})

test('the schema is made once when two machines migrate at the same time', async () => {
  const database = await createEmptyDatabase()
  const { connectionString, pool } = database
  const args = ['migrate', '--json', '--log-level', 'info', '--database-url', connectionString]
  // A migration creates this table first. So a migration that has begun waits for this transaction.
  const obstacle = await database.connect()
  await obstacle.query('BEGIN; CREATE TABLE workspace_usage_migration ()')

  const first = startProgram('src/cli/main.ts', args)
  await until('the first waits in mid-migration', async () => {
    const { rows } = await pool.query(
      `SELECT FROM pg_stat_activity WHERE application_name = 'workspace-usage migrate'
       AND datname = current_database() AND wait_event_type = 'Lock'`,
    )
    return rows.length
  })
  const second = startProgram('src/cli/main.ts', args)
  await second.line(/another migration of this database is running; waiting for it/)
  await obstacle.query('ROLLBACK')

  const exits = await Promise.all([first.exited, second.exited])
  assert.deepEqual(exits, Array(2).fill({ code: 0, signal: null }), first.stderr + second.stderr)
  assert.deepEqual(JSON.parse(first.stdout).applied, MIGRATIONS)
  assert.deepEqual(JSON.parse(second.stdout).applied, [])
  assert.equal(await schemaDump(pool), await migratedSchema())
})

test("migrate keeps its record of migrations apart from that of a host which uses Kysely's default tables", async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  const kysely = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) })
  const migrateHost = async (...names: string[]) => {
    const provider: MigrationProvider = {
      getMigrations: async () =>
        Object.fromEntries(
          names.map(name => [name, { up: async db => await db.schema.createTable(name).execute() }]),
        ),
    }
    const { error, results } = await new Migrator({ db: kysely, provider }).migrateToLatest()
    assert.ifError(error)
    return results?.map(({ migrationName }) => migrationName)
  }

  assert.deepEqual(await migrateHost('0001_users'), ['0001_users'])
  assert.deepEqual((await migrate({ connectionString })).applied, MIGRATIONS)
  assert.deepEqual(await migrateHost('0001_users', '0002_teams'), ['0002_teams'])
  assert.deepEqual((await migrate({ connectionString })).applied, [])
})

test('migrate uses the schema that search_path in the connection string names, and marks and flushes work there', async () => {
  const database = await createEmptyDatabase()
  await database.pool.query('CREATE SCHEMA app')
  const url = new URL(database.connectionString)
  url.search = '?options=-c%20search_path%3Dapp'

  await migrate({ connectionString: url.href })

  assert.equal(await schemaDump(database.pool, 'public'), '')
  const inApp = await database.connect({ connectionString: url.href })
  assert.equal(await schemaDump(inApp, 'app'), await migratedSchema())

  const pool = createPool(url.href, { applicationName: 'test', max: 2 })
  try {
    await setPeriodLength(pool, 0.1)
    const { rows } = await pool.query('INSERT INTO workspaces DEFAULT VALUES RETURNING id')
    const { id } = rows[0] as { id: string }
    assert.deepEqual(await markUsage(pool, id), { marked: 1, stored: 1 })
    await until('its period has closed', async () => (await pendingStatus(pool)).closed === 1)
    assert.equal((await drain(pool)).updated, 1)
    const used = await pool.query('SELECT FROM app.workspaces WHERE last_used_at IS NOT NULL')
    assert.equal(used.rowCount, 1)
  } finally {
    await pool.end()
  }
})

test('two schemas of a database can be migrated, each with its own record of migrations', async () => {
  const { pool, connectionString } = await createEmptyDatabase()
  await pool.query('CREATE SCHEMA app')
  await migrate({ connectionString })
  const url = new URL(connectionString)
  url.search = '?options=-c%20search_path%3Dapp'

  const { applied } = await migrate({ connectionString: url.href })

  assert.ok(applied.length > 0)
  assert.equal(await schemaDump(pool, 'public'), await migratedSchema())
  url.search = '?options=-c%20search_path%3Dnowhere'
  await assert.rejects(migrate({ connectionString: url.href }), {
    name: 'InvalidOptionError',
    message: 'search_path is "nowhere"; allowed: a path with a schema that exists.',
  })
})

async function migratedSchema(): Promise<string> {
  const { pool } = await createTestDatabase()
  return await schemaDump(pool)
}

function assertSameText(actual: string, expected: string, hint: string): void {
  const { message } = new assert.AssertionError({ actual, expected, operator: 'strictEqual' })
  assert.equal(actual, expected, `${message}\n\n${hint}`)
}
