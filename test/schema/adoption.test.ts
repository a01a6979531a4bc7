import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { RowSecurityError } from '../../src/errors.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { migrateDown } from '../../src/schema/migrate-down.ts'
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole } from '../support/roles.ts'
import { catalogObjects, schemaDump } from '../support/schema-dump.ts'
import { testServer } from '../support/test-server.ts'

test('a table workspaces of the host is adopted as it is, and stays when all migrations are taken back', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query(`
    CREATE TABLE workspaces (
      number bigint PRIMARY KEY,
      owner text NOT NULL CHECK (owner <> ''),
      id uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
      last_used_at timestamptz(3) NOT NULL DEFAULT '2020-02-02Z'
    );
    CREATE INDEX by_owner ON workspaces (owner);
    COMMENT ON TABLE workspaces IS 'Ours.';
    INSERT INTO workspaces (number, owner) SELECT n, 'owner ' || n FROM generate_series(1, 5) n`)
  const table = await statementsOf(pool)
  const rows = await rowsOf(pool)

  await migrate({ connectionString })
  const aboutWorkspaces = /^(CREATE|ALTER|COMMENT) .*\b(TABLE|COLUMN|ON) workspaces\b/
  assert.deepEqual(
    (await statementsOf(pool)).filter(statement => aboutWorkspaces.test(statement)),
    table,
  )
  assert.deepEqual(await rowsOf(pool), rows)

  await downToNothing(connectionString)
  assert.deepEqual(await statementsOf(pool), table)
  assert.deepEqual(await rowsOf(pool), rows)
})

test('a table workspaces of the host stays even if it is empty and looks just like the one that migrate creates', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query('CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz)')
  const table = await statementsOf(pool)
  await migrate({ connectionString })
  await downToNothing(connectionString)
  assert.deepEqual(await statementsOf(pool), table)
})

test('the table workspaces that migrate created stays if it has rows when all migrations are taken back, and is adopted again', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await migrate({ connectionString })
  const dump = await schemaDump(pool)
  await pool.query('INSERT INTO workspaces DEFAULT VALUES')
  const rows = await rowsOf(pool)

  await downToNothing(connectionString)
  assert.deepEqual(await rowsOf(pool), rows)

  await migrate({ connectionString })
  assert.deepEqual(await rowsOf(pool), rows)
  assert.equal(await schemaDump(pool), dump)
})

const idExpected = 'type uuid, bigint, integer, text or varchar, with a unique index of its own'
const uniqueExpected = 'a primary key or unique index on "id" alone'
const cases = [
  ...[
    ['smallint', 'smallint'],
    ['numeric', 'numeric'],
    ['char(8)', 'character(8)'],
    ['bytea', 'bytea'],
    ['name', 'name'],
    ['lower_case', 'lower_case'],
  ].map(([type, found]) => ({
    name: `with an id of type ${type}`,
    ddl: `CREATE DOMAIN lower_case AS text CHECK (VALUE = lower(VALUE));
          CREATE TABLE workspaces (id ${type} PRIMARY KEY, last_used_at timestamptz)`,
    found: `column "id" has type ${found}`,
    expected: idExpected,
  })),
  {
    name: 'without an id',
    ddl: 'CREATE TABLE workspaces (workspace_id uuid PRIMARY KEY, last_used_at timestamptz)',
    found: 'column "id" is missing',
    expected: idExpected,
  },
  {
    name: 'with an id that may occur twice',
    ddl: 'CREATE TABLE workspaces (id uuid NOT NULL, last_used_at timestamptz)',
    found: 'column "id" has no unique index',
    expected: uniqueExpected,
  },
  {
    name: 'with an id that is unique within a region only',
    ddl: `CREATE TABLE workspaces
            (id uuid, region text, last_used_at timestamptz, PRIMARY KEY (id, region))`,
    found: 'column "id" has no unique index',
    expected: uniqueExpected,
  },
  {
    name: 'with an id that is unique among some rows only',
    ddl: `CREATE TABLE workspaces (id uuid, deleted boolean, last_used_at timestamptz);
          CREATE UNIQUE INDEX ON workspaces (id) WHERE NOT deleted`,
    found: 'column "id" has no unique index',
    expected: uniqueExpected,
  },
  {
    name: 'with an id that is unique at the end of a transaction only',
    ddl: 'CREATE TABLE workspaces (id uuid UNIQUE DEFERRABLE, last_used_at timestamptz)',
    found: 'column "id" has no unique index',
    expected: uniqueExpected,
  },
  {
    name: 'without last_used_at',
    ddl: 'CREATE TABLE workspaces (id uuid PRIMARY KEY)',
    found: 'column "last_used_at" is missing',
    expected: 'type timestamptz',
  },
  {
    name: 'with a last_used_at without a time zone',
    ddl: 'CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamp)',
    found: 'column "last_used_at" has type timestamp without time zone',
    expected: 'type timestamptz',
  },
  {
    name: 'that is a view',
    ddl: 'CREATE VIEW workspaces AS SELECT gen_random_uuid() AS id, now() AS last_used_at',
    found: 'is a view that shows more than the rows of one table',
    expected: 'a table',
  },
  {
    name: 'that is UNLOGGED, which a foreign key cannot refer to,',
    ddl: 'CREATE UNLOGGED TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz)',
    found: 'is UNLOGGED or temporary',
    expected: 'a table that survives a crash',
  },
  {
    name: 'that is a foreign table',
    ddl: `CREATE EXTENSION IF NOT EXISTS file_fdw SCHEMA pg_catalog; DROP SERVER IF EXISTS files;
          CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
          CREATE FOREIGN TABLE workspaces (id uuid, last_used_at timestamptz) SERVER files OPTIONS (filename '/none')`,
    found: 'is a foreign table, and no foreign key can refer to it',
    expected: 'a table',
  },
  {
    name: 'that is a materialized view',
    ddl: 'CREATE MATERIALIZED VIEW workspaces AS SELECT gen_random_uuid() AS id, now() AS last_used_at',
    found: 'is not a table',
    expected: 'a table',
  },
  {
    name: 'with a last_used_at of a domain',
    ddl: `CREATE DOMAIN moment AS timestamptz CHECK (VALUE > '2020-01-01Z');
          CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at moment)`,
    found: 'column "last_used_at" has type moment',
    expected: 'type timestamptz',
  },
  {
    name: 'with a last_used_at that is generated',
    ddl: `CREATE TABLE workspaces (id uuid PRIMARY KEY, seen timestamptz,
          last_used_at timestamptz GENERATED ALWAYS AS (seen) STORED)`,
    found: 'column "last_used_at" is generated',
    expected: 'a column that an UPDATE can set',
  },
  ...['DO ALSO SELECT 1', 'DO INSTEAD NOTHING', 'WHERE OLD.id IS NULL DO INSTEAD NOTHING'].map(action => ({
    name: `with a rule ON UPDATE (${action})`,
    ddl: `CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz);
          CREATE RULE audit AS ON UPDATE TO workspaces ${action}`,
    found: 'has a rule ON UPDATE (audit), which PostgreSQL does not support in a flush',
    expected: 'a trigger in place of the rule',
  })),
  {
    name: 'with children that hold rows',
    ddl: `CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz);
          CREATE TABLE child () INHERITS (workspaces); CREATE TABLE grandchild () INHERITS (child);
          INSERT INTO grandchild VALUES (gen_random_uuid())`,
    found: 'has children (INHERITS) that hold rows, to which no foreign key can refer',
    expected: 'all rows in the table itself, or a partitioned table',
  },
  {
    name: 'that is a partition by last_used_at',
    ddl: `CREATE TABLE every_workspace (id uuid, last_used_at timestamptz) PARTITION BY RANGE (last_used_at);
          CREATE TABLE workspaces PARTITION OF every_workspace DEFAULT;
          CREATE UNIQUE INDEX ON workspaces (id)`,
    found: 'is a partition by last_used_at, so a flush would move rows out of it',
    expected: 'a table whose rows stay in it when last_used_at changes',
  },
  {
    name: 'with an id whose unique index is not valid',
    ddl: `CREATE TABLE workspaces (id uuid NOT NULL, last_used_at timestamptz);
          CREATE UNIQUE INDEX broken ON workspaces (id);
          UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass`,
    found: 'column "id" has no unique index',
    expected: uniqueExpected,
  },
]

for (const major of [18, 15] as const) {
  let database: Promise<TestDatabase> | undefined
  for (const { name, ddl, found, expected } of cases) {
    test(`a table workspaces ${name} is refused on PostgreSQL ${major}, and nothing is created`, async t => {
      const on = major === 18 ? await testServer() : await testServer15()
      if (on === null) return t.skip(POSTGRES_15_MISSING)
      database ??= createEmptyDatabase({ on })
      const { connectionString, pool } = await database
      await pool.query(`DROP SCHEMA public CASCADE; CREATE SCHEMA public; ${ddl}`)
      const before = await catalogObjects(pool)

      await assert.rejects(migrate({ connectionString }), {
        name: 'WorkspacesTableError',
        message:
          `the existing table "workspaces" can't be adopted: ${found}; expected ${expected}. ` +
          'Nothing was created. Change the table, or migrate in a schema of its own ' +
          '(set search_path in the connection string).',
      })
      assert.deepEqual(await catalogObjects(pool), before)
    })
  }
}

test('a table workspaces is refused if the role of migrate may not refer to it, or not read it for the views', async () => {
  const role = await createLoginRole(await testServer(), 'migrator')
  const other = await createEmptyDatabase()
  const name = pg.escapeIdentifier(role.name)
  await other.pool.query(`
    CREATE SCHEMA host; GRANT USAGE ON SCHEMA host TO ${name}; GRANT CREATE ON DATABASE "${other.name}" TO ${name};
    GRANT CREATE ON SCHEMA public TO ${name};
    CREATE TABLE host.workspaces (id uuid PRIMARY KEY, last_used_at timestamptz)`)
  const connectionString = `${role.connectionString(other)}?options=-csearch_path%3Dpublic,host`
  const before = await catalogObjects(other.pool)
  await assert.rejects(migrate({ connectionString }), /"id" may not be referenced by the role .* REFERENCES/)
  await other.pool.query(`GRANT REFERENCES (id) ON host.workspaces TO ${name}`)
  await assert.rejects(migrate({ connectionString }), /can't be read by the role .* GRANT SELECT/)
  await other.pool.query(`GRANT SELECT (id, last_used_at) ON host.workspaces TO ${name}`)
  await other.pool.query('ALTER TABLE host.workspaces ENABLE ROW LEVEL SECURITY')
  await assert.rejects(
    migrate({ connectionString }),
    (error: RowSecurityError) =>
      error instanceof RowSecurityError && error.table === 'workspaces' && error.role === role.name,
  )
  assert.deepEqual(await catalogObjects(other.pool), before)
  await other.pool.query('ALTER TABLE host.workspaces DISABLE ROW LEVEL SECURITY')
  assert.ok((await migrate({ connectionString })).applied.length > 0)
})

async function downToNothing(connectionString: string): Promise<void> {
  while ((await migrateDown({ connectionString })) !== null);
}

async function statementsOf(pool: TestDatabase['pool']): Promise<string[]> {
  return (await schemaDump(pool)).split(/\n\n(?=\S)/).map(statement => statement.trim())
}

/** The rows with ctid and xmin, which change when a row is written again. */
async function rowsOf(pool: TestDatabase['pool']): Promise<unknown[]> {
  return (await pool.query('SELECT ctid, xmin, w.* FROM workspaces w ORDER BY ctid')).rows
}
