import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PgBoss } from 'pg-boss'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { migrateDown } from '../../src/schema/migrate-down.ts'
import { uninstall } from '../../src/schema/uninstall.ts'
import { FLUSH_QUEUE, PUBLIC_QUEUES, queuesOfSchema } from '../../src/worker/queue.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { createLoginRole } from '../support/roles.ts'
import { catalogObjects, schemaDump } from '../support/schema-dump.ts'
import { testServer } from '../support/test-server.ts'

const QUEUES = PUBLIC_QUEUES.map(queue => `pg-boss queue ${queue}`)

test('uninstall leaves the catalog as it was before migrate, and says what it dropped', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  const before = await catalogObjects(pool)
  await migrate({ connectionString })
  await markUsage(pool, crypto.randomUUID())
  await pool.query('INSERT INTO pgboss.job (name) VALUES ($1)', [FLUSH_QUEUE])

  const ours = await objectsOf(pool)
  assert.ok(ours.includes('table public.pending_usage') && ours.includes('view public.workspace_activity'))

  const { dropped, left } = await uninstall({ connectionString })

  assert.deepEqual(dropped.toSorted(), [...ours, ...QUEUES, 'schema pgboss'].sort())
  assert.deepEqual(left, [])
  assert.deepEqual(await catalogObjects(pool), before)
  assert.equal(await schemaDump(pool), '')
})

test('a second uninstall does nothing, and migrate then makes the same schema again', async () => {
  const { connectionString, pool } = await createTestDatabase()
  const dump = await schemaDump(pool)
  await uninstall({ connectionString })
  const objects = await catalogObjects(pool)

  assert.deepEqual(await uninstall({ connectionString }), { dropped: [], left: [] })
  assert.deepEqual(await catalogObjects(pool), objects)

  const { applied } = await migrate({ connectionString })
  assert.ok(applied.length > 0)
  assert.equal(await schemaDump(pool), dump)
  assert.ok((await uninstall({ connectionString })).dropped.includes('schema pgboss'))
})

test('uninstall leaves a table workspaces of the host, and changes none of its rows', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query(`
    CREATE TABLE workspaces (id uuid PRIMARY KEY, name text, last_used_at timestamptz);
    INSERT INTO workspaces VALUES (gen_random_uuid(), 'mine', now())`)
  const before = await catalogObjects(pool)
  const rows = await rowsOf(pool)
  await migrate({ connectionString })

  const { left } = await uninstall({ connectionString })

  assert.deepEqual(left, [{ object: 'table public.workspaces', reason: 'workspace-usage did not create it' }])
  assert.deepEqual(await catalogObjects(pool), before)
  assert.deepEqual(await rowsOf(pool), rows)
})

test('uninstall leaves the table workspaces that migrate created if it has rows', async () => {
  const { connectionString, pool } = await createTestDatabase()
  await pool.query('INSERT INTO workspaces DEFAULT VALUES')
  const rows = await rowsOf(pool)
  const { left } = await uninstall({ connectionString })
  assert.deepEqual(left, [{ object: 'table public.workspaces', reason: 'it holds rows' }])
  assert.deepEqual(await rowsOf(pool), rows)
})

test('uninstall finishes after the newest migrations were taken back and pg-boss was dropped by hand', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  const before = await catalogObjects(pool)
  await migrate({ connectionString })
  await migrateDown({ connectionString })
  await migrateDown({ connectionString })
  await pool.query('DROP SCHEMA pgboss CASCADE')
  const ours = await objectsOf(pool)
  const { dropped, left } = await uninstall({ connectionString })
  assert.deepEqual(dropped.toSorted(), ours)
  assert.deepEqual(left, [])
  assert.deepEqual(await catalogObjects(pool), before)
})

test('uninstall removes the package from only one schema if it is in two of them', async () => {
  const { connectionString, pool } = await createTestDatabase()
  await pool.query('CREATE SCHEMA app')
  const dump = await schemaDump(pool)
  const jobs = await jobObjects(pool)
  const url = new URL(connectionString)
  url.search = '?options=-c%20search_path%3Dapp'
  await migrate({ connectionString: url.href })

  const ours = await objectsOf(pool, 'app')

  const { dropped, left } = await uninstall({ connectionString: url.href })

  assert.deepEqual(
    dropped.toSorted(),
    [...ours, ...Object.values(queuesOfSchema('app')).map(name => `pg-boss queue ${name}`)].sort(),
  )
  assert.deepEqual(left, [
    { object: 'schema pgboss', reason: `it has other queues: ${PUBLIC_QUEUES.toSorted().join(', ')}` },
  ])
  assert.equal(await schemaDump(pool, 'app'), '')
  assert.equal(await schemaDump(pool), dump)
  assert.deepEqual(await jobObjects(pool), jobs)
})

test('uninstall removes our queues, jobs and schedule, and leaves a queue of the host in pg-boss as it is', async () => {
  const { connectionString, pool } = await createTestDatabase()
  const boss = new PgBoss({ connectionString, supervise: false, schedule: false })
  await boss.start()
  try {
    await boss.createQueue('mails')
    await boss.schedule('mails', '0 * * * *')
    const job = await boss.send('mails', { to: 'all' })
    await boss.send(FLUSH_QUEUE)
    await pool.query('INSERT INTO pgboss.queue_stats (name) VALUES ($1), ($2)', [FLUSH_QUEUE, 'mails'])
    const objects = await jobObjects(pool)

    const ours = await objectsOf(pool)
    const { dropped, left } = await uninstall({ connectionString })

    assert.deepEqual(dropped.toSorted(), [...ours, ...QUEUES].sort())
    assert.deepEqual(left, [{ object: 'schema pgboss', reason: 'it has other queues: mails' }])
    assert.deepEqual(await jobObjects(pool), objects)
    const { rows } = await pool.query(`
      SELECT name FROM pgboss.job UNION ALL SELECT name FROM pgboss.queue
      UNION ALL SELECT name FROM pgboss.schedule UNION ALL SELECT name FROM pgboss.queue_stats`)
    assert.deepEqual(
      rows.map(({ name }) => name),
      Array(4).fill('mails'),
    )
    const [fetched] = await boss.fetch('mails')
    assert.equal(fetched?.id, job)
  } finally {
    await boss.stop({ graceful: false })
  }
})

test('uninstall leaves the schema of pg-boss if a view of the host reads it, and names the view', async () => {
  const { connectionString, pool } = await createTestDatabase()
  await pool.query('CREATE VIEW jobs AS SELECT id, name FROM pgboss.job')
  const ours = (await objectsOf(pool)).filter(object => object !== 'view public.jobs')
  const { dropped, left } = await uninstall({ connectionString })
  assert.deepEqual(dropped.toSorted(), [...ours, ...QUEUES].sort())
  assert.deepEqual(
    left.map(({ object }) => object),
    ['schema pgboss'],
  )
  assert.match(left[0]!.reason, /view jobs depends on table pgboss\.job/)
  assert.equal((await pool.query('SELECT FROM jobs')).rowCount, 0)
})

test('uninstall leaves the schema of pg-boss if a table of the host is in it', async () => {
  const { connectionString, pool } = await createTestDatabase()
  await pool.query('CREATE TABLE pgboss.archive (id uuid); INSERT INTO pgboss.archive VALUES (NULL)')
  const { left } = await uninstall({ connectionString })
  assert.match(left[0]!.reason, /table pgboss\.archive depends on schema pgboss/)
  assert.equal((await pool.query('SELECT FROM pgboss.archive')).rowCount, 1)
  assert.equal((await pool.query('SELECT FROM pgboss.queue')).rowCount, 0)
})

test('uninstall is refused for a role that is not the owner, and nothing changes', async () => {
  const role = await createLoginRole(await testServer(), 'stranger')
  const database = await createTestDatabase()
  const objects = await catalogObjects(database.pool)
  await assert.rejects(uninstall({ connectionString: role.connectionString(database) }), {
    name: 'SchemaChangeRefusedError',
    message:
      /^PostgreSQL refused the change: .*permission denied.*Nothing was changed\. Connect as the role that ran/,
  })
  assert.deepEqual(await catalogObjects(database.pool), objects)
})

test('uninstall is refused if a view of the host reads our tables, and nothing changes', async () => {
  const { connectionString, pool } = await createTestDatabase()
  await pool.query('CREATE VIEW mine AS SELECT workspace_id FROM workspace_activity')
  const objects = await catalogObjects(pool)
  await assert.rejects(uninstall({ connectionString }), {
    name: 'SchemaChangeRefusedError',
    message:
      /view mine depends on view workspace_activity\. Nothing was changed\. Drop what depends on it first\.$/,
  })
  assert.deepEqual(await catalogObjects(pool), objects)
  assert.equal((await pool.query('SELECT FROM pgboss.queue WHERE name = $1', [FLUSH_QUEUE])).rowCount, 1)
})

test('uninstall gives up after 5 seconds if another session has locked a table, and nothing changes', async () => {
  const database = await createTestDatabase()
  const { connectionString, pool } = database
  const objects = await catalogObjects(pool)
  const reader = await database.connect()
  await reader.query('BEGIN; SELECT FROM pending_usage')
  await assert.rejects(uninstall({ connectionString }), {
    name: 'SchemaChangeRefusedError',
    message: /Nothing was changed\. Stop the workers and the services that mark, then repeat\.$/,
  })
  await reader.query('ROLLBACK')
  assert.deepEqual(await catalogObjects(pool), objects)
})

test('uninstall and migrate refuse an option that is misspelt', async () => {
  const options = { connectionstring: 'postgres://nowhere/' } as unknown as { connectionString: string }
  for (const run of [uninstall, migrate]) {
    await assert.rejects(run(options), {
      name: 'UnknownOptionError',
      message: /"connectionstring"\. Did you mean "connectionString"\?/,
    })
  }
})

async function rowsOf(pool: TestDatabase['pool']): Promise<unknown[]> {
  return (await pool.query('SELECT ctid, xmin, w.* FROM workspaces w ORDER BY ctid')).rows
}

/** The tables, views and functions of a schema, as uninstall names them. */
async function objectsOf(pool: TestDatabase['pool'], schema = 'public'): Promise<string[]> {
  const { rows } = await pool.query(
    `SELECT CASE relkind WHEN 'v' THEN 'view' ELSE 'table' END || ' ' || $1 || '.' || relname AS object
     FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind IN ('r', 'v')
     UNION ALL
     SELECT 'function ' || $1 || '.' || proname || '(' || pg_get_function_identity_arguments(oid) || ')'
     FROM pg_proc WHERE pronamespace = $1::regnamespace`,
    [schema],
  )
  return rows.map(({ object }) => object as string).sort()
}

async function jobObjects(pool: TestDatabase['pool']): Promise<string[]> {
  return (await catalogObjects(pool)).filter(object => object.includes('pgboss'))
}
