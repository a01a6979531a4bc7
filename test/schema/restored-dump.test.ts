import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { accessSync } from 'node:fs'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { drain } from '../../src/flush/drain.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { migrateDown } from '../../src/schema/migrate-down.ts'
import { uninstall } from '../../src/schema/uninstall.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { catalogObjects, schemaDump } from '../support/schema-dump.ts'

const PG_DUMP = '/usr/lib/postgresql/15/bin/pg_dump'

test('a schema-only dump that pg_dump made is restored, and migrate makes it work', async t => {
  const on = await testServer15()
  if (on === null || !exists(PG_DUMP)) return t.skip(POSTGRES_15_MISSING)
  const source = await createTestDatabase({ on })
  const dump = await schemaDump(source.pool)
  const target = await createEmptyDatabase({ on })
  await target.pool.query(await pgDump(source))
  assert.equal(await schemaDump(target.pool), dump)

  await assertMigratable(target, dump)
})

testOnBothVersions(
  'migrate finds what a dump without rows has brought, records it, and a worker can start',
  async database => {
    const { connectionString, pool } = database
    await migrate({ connectionString })
    const dump = await schemaDump(pool)
    await removeAllRows(database)

    await assertMigratable(database, dump)
  },
)

test('migrate runs the migrations that a restored dump does not have', async () => {
  const { connectionString, pool } = await createTestDatabase()
  const dump = await schemaDump(pool)
  const newest = await migrateDown({ connectionString })
  await pool.query('TRUNCATE workspace_usage_migration, workspace_usage_migration_lock')
  const { applied, restored } = await migrate({ connectionString })
  assert.deepEqual(applied, [newest])
  assert.ok(restored.length > 0 && !restored.includes(newest!))
  assert.equal(await schemaDump(pool), dump)
})

test('migrate recognises the schema of a release that wrote no comment', async () => {
  const { connectionString, pool } = await createTestDatabase()
  const dump = await schemaDump(pool)
  while ((await migrateDown({ connectionString })) !== '0005_set_aside_usage');
  await pool.query('DROP TABLE workspace_usage_migration, workspace_usage_migration_lock')
  const { applied, restored } = await migrate({ connectionString })
  assert.equal(applied[0], '0005_set_aside_usage')
  assert.equal(restored.at(-1), '0004_usage_period')
  assert.equal(await schemaDump(pool), dump)
})

test('uninstall removes what a dump without rows has brought', async () => {
  const database = await createTestDatabase()
  await removeAllRows(database)
  const { dropped, left } = await uninstall({ connectionString: database.connectionString })
  assert.ok(dropped.includes('table public.pending_usage'))
  assert.deepEqual(left, [])
  assert.equal(await schemaDump(database.pool), '')
})

test('migrate refuses an object of the host that it would have to create, and nothing changes', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query('CREATE TABLE pending_usage_witness (mine integer)')
  const before = await catalogObjects(pool)
  await assert.rejects(migrate({ connectionString }), {
    name: 'ObjectExistsError',
    message: /"public": relation "pending_usage_witness" already exists\. .+Nothing was changed\./,
  })
  assert.deepEqual(await catalogObjects(pool), before)
})

test('migrate refuses a pg-boss without a version that is not its own, before it creates anything', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query('CREATE SCHEMA pgboss; CREATE TABLE pgboss.version (version integer)')
  const before = await catalogObjects(pool)
  await assert.rejects(migrate({ connectionString }), {
    name: 'QueueSchemaUnknownError',
    message: /DROP SCHEMA pgboss CASCADE/,
  })
  assert.deepEqual(await catalogObjects(pool), before)
})

async function assertMigratable({ connectionString, pool }: TestDatabase, dump: string): Promise<void> {
  const { applied, restored } = await migrate({ connectionString })
  assert.deepEqual(applied, [])
  assert.ok(restored.includes('0001_pending_usage'))
  assert.equal(await schemaDump(pool), dump)
  assert.deepEqual((await migrate({ connectionString })).restored, [])
  await markUsage(pool, crypto.randomUUID())
  assert.equal((await drain(pool)).emptied, false)
  const queues = await pool.query("SELECT FROM pgboss.queue WHERE name = 'workspace-usage-flush'")
  assert.equal(queues.rowCount, 1)
}

async function removeAllRows({ pool }: TestDatabase): Promise<void> {
  const { rows } = await pool.query(
    `SELECT string_agg(oid::regclass::text, ', ') AS tables FROM pg_class
     WHERE relnamespace IN ('public'::regnamespace, 'pgboss'::regnamespace) AND relkind IN ('r', 'p')`,
  )
  await pool.query(`TRUNCATE ${(rows[0] as { tables: string }).tables}`)
}

async function pgDump({ connectionString }: TestDatabase): Promise<string> {
  const { stdout } = await promisify(execFile)(PG_DUMP, ['--schema-only', connectionString])
  // These are for psql alone. The restored session must find `public`.
  return stdout
    .replaceAll(/^(\\.*|SELECT pg_catalog\.set_config\('search_path'.*)$/gm, '')
    .replace(/^CREATE SCHEMA public;$/m, '')
}

function exists(file: string): boolean {
  try {
    accessSync(file)
    return true
  } catch {
    return false
  }
}
