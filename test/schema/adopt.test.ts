import assert from 'node:assert/strict'
import { test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { uninstall } from '../../src/schema/uninstall.ts'
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { schemaDump } from '../support/schema-dump.ts'

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
    await pool.query('GRANT SELECT (id, last_used_at), UPDATE (last_used_at) ON workspaces TO PUBLIC')
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
