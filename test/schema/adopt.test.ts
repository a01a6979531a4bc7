import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { diagnose } from '../../src/doctor/diagnose.ts'
import { flush } from '../../src/flush/flush.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { uninstall } from '../../src/schema/uninstall.ts'
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { createLoginRole } from '../support/roles.ts'
import { schemaDump } from '../support/schema-dump.ts'
import { testServer } from '../support/test-server.ts'

const SANDBOXES = `
  CREATE SCHEMA app;
  CREATE TABLE app.sandboxes (
    name text, key uuid PRIMARY KEY DEFAULT gen_random_uuid(), deleted_at timestamptz, "lastActivityAt" timestamptz,
    "createdAt" timestamptz NOT NULL DEFAULT '2026-01-01Z', day date, moment timestamp
  )`
const NAMES = { table: 'app.sandboxes', idColumn: 'key', lastUsedColumn: 'lastActivityAt' }

testOnBothVersions(
  'a table of other names is adopted, and not altered, and uninstall drops the view alone',
  async ({ connectionString, pool }) => {
    await pool.query(SANDBOXES)
    const before = await schemaDump(pool, 'app')
    const first = await migrate({
      connectionString,
      ...NAMES,
      createdColumn: 'createdAt',
      where: 'deleted_at IS NULL',
    })
    assert.equal(first.adoption, 'created')
    assert.equal(first.workspacesCreated, false)
    // Before PostgreSQL 16, the name of the table stands before a column.
    const where = first.workspaces.where?.replace('sandboxes.', '')
    assert.deepEqual(
      { ...first.workspaces, where },
      {
        table: 'app.sandboxes',
        view: true,
        idColumn: 'key',
        lastUsedColumn: 'lastActivityAt',
        createdColumn: 'createdAt',
        where: '(deleted_at IS NULL)',
      },
    )
    assert.deepEqual(first.warnings, [])
    assert.equal(await schemaDump(pool, 'app'), before)
    assert.deepEqual(await columnsOf(pool), [
      'id uuid',
      'last_used_at timestamp with time zone',
      'created_at timestamp with time zone',
    ])
    assert.equal(await referredBy(pool, 'workspace_usage'), 'app.sandboxes')

    const { dropped, left } = await uninstall({ connectionString })
    assert.ok(dropped.includes('view public.workspaces'), dropped.join())
    assert.deepEqual(left, [])
    assert.equal(await schemaDump(pool, 'app'), before)
  },
)

testOnBothVersions(
  'a migration with the same values changes nothing, and one with others changes the view and keeps rights',
  async ({ connectionString, pool }) => {
    await pool.query(SANDBOXES)
    await migrate({ connectionString, ...NAMES })
    const view = await viewRow(pool)
    assert.equal((await migrate({ connectionString, ...NAMES })).adoption, 'kept')
    assert.equal((await migrate({ connectionString })).adoption, null)
    assert.deepEqual(await viewRow(pool), view)

    await pool.query('GRANT SELECT (id), UPDATE (last_used_at) ON workspaces TO PUBLIC')
    const id = await sandbox(pool)
    await mark(pool, id)
    const changed = await migrate({
      connectionString,
      ...NAMES,
      createdColumn: 'createdAt',
      where: 'deleted_at IS NULL',
    })
    assert.equal(changed.adoption, 'changed')
    assert.equal(changed.workspaces.createdColumn, 'createdAt')
    const narrowed = await migrate({ connectionString, ...NAMES })
    assert.equal(narrowed.adoption, 'changed')
    assert.deepEqual([narrowed.workspaces.createdColumn, narrowed.workspaces.where], [null, null])
    assert.deepEqual((await pool.query('SELECT created_at FROM workspaces')).rows, [{ created_at: null }])
    const { rows } = await pool.query(
      `SELECT has_column_privilege('pg_monitor', 'workspaces', 'last_used_at', 'UPDATE') AS may`,
    )
    assert.deepEqual(rows, [{ may: true }])
    assert.equal((await flush(pool)).updated, 1)
  },
)

testOnBothVersions(
  'an empty table that migrate had created is replaced by the view, with its rights and readers',
  async ({ connectionString, pool }) => {
    await pool.query(SANDBOXES)
    const id = await sandbox(pool)
    await migrate({ connectionString })
    await pool.query(
      'GRANT SELECT (id, last_used_at, xmax, ctid), UPDATE (last_used_at) ON workspaces TO PUBLIC',
    )
    const replaced = await migrate({ connectionString, ...NAMES })
    assert.equal(replaced.adoption, 'replaced')
    assert.equal(await referredBy(pool, 'workspace_usage'), 'app.sandboxes')
    await mark(pool, id)
    assert.equal((await flush(pool)).updated, 1)
    const { rows } = await pool.query('SELECT workspace_id, source, pending FROM workspace_activity')
    assert.deepEqual(rows, [{ workspace_id: id, source: 'test', pending: false }])
    assert.deepEqual(
      (
        await pool.query(
          `SELECT has_column_privilege('pg_monitor', 'workspaces', 'last_used_at', 'UPDATE') AS may`,
        )
      ).rows,
      [{ may: true }],
    )
    assert.equal((await migrate({ connectionString, ...NAMES })).adoption, 'kept')
  },
)

test('the view moves from one table to another, and the foreign key with it if all rows are there', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query(`${SANDBOXES}; CREATE TABLE app.boxes (id uuid PRIMARY KEY, last_used_at timestamptz(3))`)
  await migrate({ connectionString, ...NAMES })
  const moved = await migrate({ connectionString, table: 'app.boxes' })
  assert.deepEqual([moved.adoption, moved.warnings], ['changed', []])
  assert.equal(await referredBy(pool, 'workspace_usage'), 'app.boxes')

  await pool.query(`INSERT INTO app.boxes VALUES ('${crypto.randomUUID()}')`)
  await pool.query(`INSERT INTO workspace_usage SELECT id, 'test', now() FROM app.boxes`)
  const back = await migrate({ connectionString, ...NAMES })
  assert.deepEqual(
    back.warnings.map(({ code }) => code),
    ['no-foreign-key'],
  )
  assert.equal(await referredBy(pool, 'workspace_usage'), null)
  await pool.query('DELETE FROM workspace_usage')
  assert.deepEqual((await migrate({ connectionString })).warnings, [])
  assert.equal(await referredBy(pool, 'workspace_usage'), 'app.sandboxes')
})

testOnBothVersions(
  'the time of creation is shown once the table has it, whether it is called workspaces or another name',
  async ({ connectionString, pool }) => {
    await pool.query('CREATE TABLE workspaces (id bigint PRIMARY KEY, last_used_at timestamptz)')
    await migrate({ connectionString })
    await pool.query(`
    ALTER TABLE workspaces ADD created_at timestamptz DEFAULT '2026-01-01Z'; INSERT INTO workspaces VALUES (7)`)
    assert.deepEqual(await createdAt(pool), [null])
    await migrate({ connectionString })
    assert.deepEqual(await createdAt(pool), ['2026-01-01T00:00:00.000Z'])
    await uninstall({ connectionString })
    await pool.query(`DROP TABLE workspaces; ${SANDBOXES}`)
    await sandbox(pool)
    await migrate({ connectionString, ...NAMES })
    assert.deepEqual(await createdAt(pool), [null])
    await migrate({ connectionString, ...NAMES, createdColumn: 'createdAt' })
    assert.deepEqual(await createdAt(pool), ['2026-01-01T00:00:00.000Z'])
    await migrate({ connectionString, ...NAMES })
    assert.deepEqual(await createdAt(pool), [null])
  },
)

test('a table that was dropped with all that reads it leaves room for another one', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query(`${SANDBOXES}; CREATE TABLE app.boxes (id uuid PRIMARY KEY, last_used_at timestamptz)`)
  await migrate({ connectionString, ...NAMES })
  await pool.query('DROP TABLE app.sandboxes CASCADE')
  const { adoption } = await migrate({ connectionString, table: 'app.boxes' })
  assert.equal(adoption, 'created')
  await pool.query('INSERT INTO app.boxes SELECT gen_random_uuid()')
  assert.equal((await pool.query('SELECT FROM workspace_activity')).rowCount, 1)
  assert.equal(await referredBy(pool, 'workspace_usage'), 'app.boxes')
  assert.equal(await referredBy(pool, 'workspace_usage_day'), 'app.boxes')
})

test('a superuser who adopts for the role that had migrated leaves everything to that role', async () => {
  const role = await createLoginRole(await testServer(), 'migrator')
  const database = await createEmptyDatabase()
  const { connectionString, pool } = database
  const name = pg.escapeIdentifier(role.name)
  await pool.query(`GRANT CREATE ON DATABASE ${pg.escapeIdentifier(database.name)} TO ${name};
    GRANT CREATE ON SCHEMA public TO ${name}; ${SANDBOXES}`)
  await migrate({ connectionString: role.connectionString(database) })
  const attempt = () => migrate({ connectionString, ...NAMES })
  await assert.rejects(
    attempt(),
    /GRANT SELECT \(key, "lastActivityAt"\), UPDATE \("lastActivityAt"\) ON app\.sandboxes TO/,
  )
  await pool.query(
    `GRANT SELECT, UPDATE, REFERENCES ON app.sandboxes TO ${name}; GRANT USAGE ON SCHEMA app TO ${name}`,
  )
  assert.equal((await attempt()).adoption, 'replaced')
  const { rows } = await pool.query(
    `SELECT DISTINCT pg_get_userbyid(relowner) AS owner FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')`,
  )
  assert.deepEqual(rows, [{ owner: role.name }])
})

test('the warnings of an adopted table are about the table below, in its own words', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query(`${SANDBOXES};
    CREATE INDEX by_activity ON app.sandboxes ("lastActivityAt");
    CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER touch BEFORE UPDATE OF "lastActivityAt" ON app.sandboxes FOR EACH ROW EXECUTE FUNCTION app.touch();
    CREATE PUBLICATION host FOR TABLE app.sandboxes; ALTER TABLE app.sandboxes REPLICA IDENTITY NOTHING`)
  const { warnings } = await migrate({ connectionString, ...NAMES })
  assert.deepEqual(
    warnings.map(({ code, object }) => `${code}: ${object}`),
    [
      'index-on-last-used-at: index app.by_activity',
      'row-trigger: trigger touch on app.sandboxes',
      'update-refused: table app.sandboxes',
    ],
  )
  assert.match(warnings[0]!.remedy, /leave lastActivityAt out of its columns/)
  const { checks, findings } = await diagnose(pool)
  assert.equal(checks.find(({ name }) => name === 'table')?.seen, 'a view of app.sandboxes')
  assert.ok(findings.some(({ code, object }) => code === 'fillfactor' && object === 'table app.sandboxes'))
})

async function createdAt(pool: TestDatabase['pool']): Promise<(string | null)[]> {
  const { rows } = await pool.query('SELECT created_at FROM workspace_activity')
  return rows.map(({ created_at: at }) => (at === null ? null : at.toISOString()))
}

async function sandbox(pool: TestDatabase['pool']): Promise<string> {
  const { rows } = await pool.query('INSERT INTO app.sandboxes DEFAULT VALUES RETURNING key')
  return rows[0].key
}

async function mark(pool: TestDatabase['pool'], id: string): Promise<void> {
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source) VALUES (now() - interval '1 s', $1, 'test')`,
    [id],
  )
}

async function columnsOf(pool: TestDatabase['pool']): Promise<string[]> {
  const { rows } = await pool.query(
    `SELECT attname || ' ' || format_type(atttypid, atttypmod) AS text FROM pg_attribute
    WHERE attrelid = 'workspaces'::regclass AND attnum > 0 ORDER BY attnum`,
  )
  return rows.map(({ text }) => text)
}

/** Its row version changes if the view is replaced. */
async function viewRow(pool: TestDatabase['pool']): Promise<unknown> {
  return (await pool.query(`SELECT oid, xmin, ctid FROM pg_class WHERE oid = 'workspaces'::regclass`)).rows[0]
}

async function referredBy(pool: TestDatabase['pool'], table: string): Promise<string | null> {
  const { rows } = await pool.query(
    `SELECT confrelid::regclass::text AS name FROM pg_constraint WHERE contype = 'f' AND conrelid = $1::regclass`,
    [table],
  )
  return rows[0]?.name ?? null
}
