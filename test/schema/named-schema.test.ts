import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inSchema } from '../../src/database/in-schema.ts'
import { createPool } from '../../src/database/pool.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { migrateDown } from '../../src/schema/migrate-down.ts'
import { uninstall } from '../../src/schema/uninstall.ts'
import { FLUSH_QUEUE, queuesOfSchema } from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { createDatabaseWithSchemas, OWN_SCHEMA } from '../support/hostile-path.ts'
import { collectLog } from '../support/log-lines.ts'
import { createLoginRole } from '../support/roles.ts'
import { testServer } from '../support/test-server.ts'

const server = await testServer()

test('migrate creates the schema that is named, with all that it would create in public', async () => {
  const database = await createEmptyDatabase()
  const { connectionString, pool } = database
  await pool.query(`ALTER DATABASE "${database.name}" SET search_path = ''`)
  const result = await migrate({ connectionString, schema: 'usage' })
  assert.equal(result.schema, 'usage')
  assert.equal(result.workspacesCreated, true)
  assert.equal(result.queue.queue, queuesOfSchema('usage').flush)
  const before = await objectsIn(await createTestDatabase(), 'public')
  assert.deepEqual(await objectsIn(database, 'usage'), before)
  assert.deepEqual(await objectsIn(database, 'public'), [])
  const again = await migrate({ connectionString, schema: 'usage' })
  assert.deepEqual([again.applied, again.workspacesCreated], [[], false])
})

test('migrate down and uninstall take back what is in the schema, and the schema that migrate created', async () => {
  const { connectionString, pool } = await createDatabaseWithSchemas()
  const others = await objectsOf(pool)
  const newest = await migrateDown({ connectionString, schema: OWN_SCHEMA })
  assert.ok(newest !== null)
  assert.deepEqual((await migrate({ connectionString, schema: OWN_SCHEMA })).applied, [newest])
  const { dropped, left } = await uninstall({ connectionString, schema: OWN_SCHEMA })
  assert.ok(dropped.includes(`schema ${OWN_SCHEMA}`), dropped.join('\n'))
  assert.deepEqual(
    left.map(({ object }) => object),
    ['schema pgboss'],
  )
  const { rows } = await pool.query('SELECT FROM pg_namespace WHERE nspname = $1', [OWN_SCHEMA])
  assert.equal(rows.length, 0)
  assert.deepEqual(await objectsOf(pool), others)
  assert.deepEqual(await uninstall({ connectionString, schema: OWN_SCHEMA }), { dropped: [], left: [] })
  assert.equal(await migrateDown({ connectionString, schema: OWN_SCHEMA }), null)
  const queues = await pool.query('SELECT FROM pgboss.queue WHERE name = $1', [FLUSH_QUEUE])
  assert.equal(queues.rows.length, 1)
})

test('uninstall leaves a schema of somebody else, and one that holds something else', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query('CREATE SCHEMA theirs')
  for (const schema of ['theirs', 'shared']) await migrate({ connectionString, schema })
  await pool.query('CREATE TABLE shared.other ()')
  assert.equal(
    (await uninstall({ connectionString, schema: 'theirs' })).dropped.includes('schema theirs'),
    false,
  )
  assert.deepEqual((await uninstall({ connectionString, schema: 'shared' })).left, [
    { object: 'schema shared', reason: 'it holds something else' },
  ])
  const { rows } = await pool.query(`SELECT FROM pg_namespace WHERE nspname IN ('theirs', 'shared')`)
  assert.equal(rows.length, 2)
})

test('a table workspaces in the schema is used, and not one that search_path finds elsewhere', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query(`CREATE TABLE public.workspaces (id uuid PRIMARY KEY, last_used_at timestamptz);
    CREATE SCHEMA app; CREATE TABLE app.workspaces (id uuid PRIMARY KEY, last_used_at timestamptz, name text)`)
  assert.equal((await migrate({ connectionString, schema: 'app' })).workspacesCreated, false)

  const { rows } = await pool.query(`SELECT confrelid::regclass::text AS table FROM pg_constraint
    WHERE contype = 'f' AND conrelid = 'app.workspace_usage'::regclass`)
  assert.deepEqual(rows, [{ table: 'app.workspaces' }])
})

test('a table workspaces that search_path finds elsewhere is adopted through a view, if the schema has none', async () => {
  const database = await createEmptyDatabase()
  const { connectionString, pool } = database
  await pool.query(`CREATE SCHEMA app; ALTER DATABASE "${database.name}" SET search_path = app, public`)
  const client = await database.connect()
  await client.query(
    'CREATE TABLE workspaces (id bigint PRIMARY KEY, last_used_at timestamptz, created_at timestamptz)',
  )
  const result = await migrate({ connectionString, schema: 'usage' })
  assert.deepEqual(
    [result.adoption, result.workspacesCreated, result.workspaces.table, result.workspaces.createdColumn],
    ['created', false, 'app.workspaces', 'created_at'],
  )
  assert.equal((await migrate({ connectionString, schema: 'usage' })).adoption, null)
  await client.query('INSERT INTO workspaces (id) VALUES (7)')
  await client.query(`INSERT INTO usage.pending_usage (period_end, workspace_id, source)
    VALUES (now() - interval '1 minute', 7, 'test')`)
  const shared = createPool(connectionString, { applicationName: 'test', max: 2 })
  assert.equal((await flush(inSchema(shared, 'usage'))).flushed, 1)
  await shared.end()
  const { rows } = await client.query('SELECT FROM app.workspaces WHERE last_used_at IS NOT NULL')
  assert.equal(rows.length, 1)
})

test('a schema into which search_path has led gets a view on the table that stayed elsewhere, once it is named', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query(
    'CREATE TABLE public.workspaces (id uuid PRIMARY KEY, last_used_at timestamptz); CREATE SCHEMA app',
  )
  await migrate({ connectionString: `${connectionString}?options=-csearch_path%3Dapp,public` })
  const placed = { database: inSchema(pool, 'app'), logger: collectLog().logger }
  await assert.rejects(startFlushWorker(placed), {
    name: 'NotMigratedError',
    message: /relation "app\.workspaces" does not exist\. Run `workspace-usage migrate --schema app`/,
  })
  const result = await migrate({ connectionString, schema: 'app' })
  assert.deepEqual(
    [result.applied, result.adoption, result.workspaces.table],
    [[], 'created', 'public.workspaces'],
  )
  await (await startFlushWorker(placed)).stop()
})

test('the table that is named for a schema is found as the session finds it, and so is what its condition calls', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query(`CREATE TABLE public.sandboxes (key text PRIMARY KEY, used timestamptz);
    CREATE FUNCTION public.is_live(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'`)
  const options = { table: 'sandboxes', idColumn: 'key', lastUsedColumn: 'used', where: 'is_live(key)' }
  const first = await migrate({ connectionString, schema: 'usage', ...options })
  assert.deepEqual([first.adoption, first.workspaces.table], ['created', 'public.sandboxes'])
  assert.equal((await migrate({ connectionString, schema: 'usage', ...options })).adoption, 'kept')
  const { left } = await uninstall({ connectionString, schema: 'usage' })
  assert.ok(!left.some(({ object }) => object === 'schema usage'), JSON.stringify(left))
})

test('several machines may migrate into a schema that does not exist yet, at once', async () => {
  const { connectionString } = await createEmptyDatabase()
  const results = await Promise.all([1, 2, 3].map(() => migrate({ connectionString, schema: 'once' })))
  assert.equal(results.filter(({ workspacesCreated }) => workspacesCreated).length, 1)
})

test('a migration that fails takes the schema back that it created', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  // Somebody else holds the lock that a trigger of an event refuses.
  await pool.query(`
    CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'no views here' USING ERRCODE = '42501'; END $$;
    CREATE EVENT TRIGGER no_views ON ddl_command_start WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION public.refuse()`)
  await assert.rejects(migrate({ connectionString, schema: 'usage' }), {
    name: 'SchemaChangeRefusedError',
    message: /no views here/,
  })
  const { rows } = await pool.query(`SELECT FROM pg_namespace WHERE nspname = 'usage'`)
  assert.equal(rows.length, 0)
})

test('a role that may not create the schema is told so, and how that is changed', async () => {
  const role = await createLoginRole(server, 'migrator')
  const database = await createEmptyDatabase()
  const connectionString = role.connectionString(database)
  await assert.rejects(migrate({ connectionString, schema: 'usage' }), {
    name: 'SchemaChangeRefusedError',
    message:
      `PostgreSQL refused the change: permission denied for database ${database.name}. Nothing was changed. The ` +
      'schema "usage" does not exist, and this role may not create it. As the owner of the database, run CREATE ' +
      'SCHEMA "usage" AUTHORIZATION … with the role that migrates, or grant it CREATE ON DATABASE.',
  })
  await database.pool.query('CREATE SCHEMA usage')
  await assert.rejects(migrate({ connectionString, schema: 'usage' }), {
    name: 'SchemaChangeRefusedError',
    message: /permission denied for schema usage/,
  })
})

test('a name that no schema can have is refused before anything is connected', async () => {
  const nowhere = { connectionString: 'postgres://127.0.0.1:1/none' }
  for (const schema of ['', 'pg_usage', 'x'.repeat(64)]) {
    for (const change of [migrate, migrateDown, uninstall]) {
      await assert.rejects(change({ ...nowhere, schema }), { name: 'InvalidOptionError', option: 'schema' })
    }
  }
})

test('two installations in one database each keep their own marks', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  for (const schema of ['one', 'two']) await migrate({ connectionString, schema })
  const shared = createPool(connectionString, { applicationName: 'test', max: 2 })
  await markUsage(inSchema(shared, 'one'), crypto.randomUUID())
  await markUsage(inSchema(shared, 'two'), [crypto.randomUUID(), crypto.randomUUID()])
  await shared.end()
  const { rows } = await pool.query(`SELECT (SELECT count(*) FROM one.pending_usage)::int AS one,
    (SELECT count(*) FROM two.pending_usage)::int AS two`)
  assert.deepEqual(rows, [{ one: 1, two: 2 }])
})

/** Names and kinds of what is in a schema. */
async function objectsIn({ pool }: TestDatabase, schema: string): Promise<string[]> {
  const { rows } = await pool.query(
    `SELECT relkind::text || ' ' || relname AS object FROM pg_class WHERE relnamespace = to_regnamespace($1) UNION ALL
    SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = to_regnamespace($1) ORDER BY 1`,
    [schema],
  )
  return rows.map(({ object }) => object)
}

/** What is in all schemas but ours and pg-boss's. */
async function objectsOf(pool: TestDatabase['pool']): Promise<unknown[]> {
  const { rows } = await pool.query(
    `SELECT relnamespace::regnamespace::text AS schema, relname FROM pg_class
    WHERE relnamespace::regnamespace::text !~ '^pg' AND relnamespace <> (
      SELECT coalesce(min(oid::bigint), 0)::oid FROM pg_namespace WHERE nspname = $1
    ) ORDER BY 1, 2`,
    [OWN_SCHEMA],
  )
  return rows
}
