import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { WorkspacesTableError } from '../../src/errors.ts'
import type { AdoptionOptions } from '../../src/schema/adopt.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole } from '../support/roles.ts'
import { catalogObjects } from '../support/schema-dump.ts'
import { testServer } from '../support/test-server.ts'

interface Case {
  name: string
  ddl?: string
  options: AdoptionOptions & { table: string }
  /** What the text says after "can't be adopted: ". */
  says: RegExp
}

const BOXES =
  'CREATE TABLE app.boxes (id uuid PRIMARY KEY, last_used_at timestamptz, name text, deleted boolean)'
const TABLE = { table: 'app.boxes' }

const CASES: Case[] = [
  {
    name: 'that does not exist, and the nearest is named,',
    options: { table: 'app.boxs' },
    says: /^does not exist; expected an existing table, .+; the nearest is app\.boxes\./,
  },
  {
    name: 'that is in a schema that search_path does not have',
    options: { table: 'boxes' },
    says: /^does not exist in a schema of search_path; .+ the nearest is app\.boxes\./,
  },
  {
    name: 'that is written with the name of the database',
    options: { table: 'db.app.boxes' },
    says: /^does not exist; .+/,
  },
  {
    name: 'without the column of the id',
    options: { ...TABLE, idColumn: 'ids' },
    says: /^column "ids" is missing; expected a column of the table, .+; the nearest is "id"\./,
  },
  {
    name: 'whose column is written in other letters',
    ddl: 'CREATE TABLE app.boxes (id uuid PRIMARY KEY, "lastActivityAt" timestamptz)',
    options: { ...TABLE, lastUsedColumn: 'lastactivityat' },
    says: /^column "lastactivityat" is missing; .+ the nearest is "lastActivityAt"\./,
  },
  {
    name: 'with a time of creation that is a date',
    ddl: 'CREATE TABLE app.boxes (id uuid PRIMARY KEY, last_used_at timestamptz, born date)',
    options: { ...TABLE, createdColumn: 'born' },
    says: /^column "born" has type date; expected type timestamptz\./,
  },
  ...['date', 'timestamp', 'bigint'].map(type => ({
    name: `with a last use of type ${type}`,
    ddl: `CREATE TABLE app.boxes (id uuid PRIMARY KEY, used ${type})`,
    options: { ...TABLE, lastUsedColumn: 'used' },
    says: /^column "used" has type \S.*; expected type timestamptz\./,
  })),
  {
    name: 'with an id that is a number with decimals',
    ddl: 'CREATE TABLE app.boxes (key numeric PRIMARY KEY, last_used_at timestamptz)',
    options: { ...TABLE, idColumn: 'key' },
    says: /^column "key" has type numeric; expected type uuid, bigint, integer, text or varchar/,
  },
  {
    name: 'whose id may occur twice',
    ddl: 'CREATE TABLE app.boxes (key uuid NOT NULL, last_used_at timestamptz)',
    options: { ...TABLE, idColumn: 'key' },
    says: /^column "key" has no unique index; expected a primary key or unique index on "key" alone\./,
  },
  {
    name: 'that is a view over a join',
    ddl: `${BOXES}; CREATE TABLE app.owners (name text PRIMARY KEY);
      CREATE VIEW app.joined AS SELECT b.id, b.last_used_at FROM app.boxes b JOIN app.owners USING (name)`,
    options: { table: 'app.joined' },
    says: /^is shown by a view that PostgreSQL can not update by itself; expected a table, or a view of one table/,
  },
  {
    name: 'that is a view with groups',
    ddl: `${BOXES}; CREATE VIEW app.grouped AS SELECT id, max(last_used_at) AS last_used_at FROM app.boxes GROUP BY id`,
    options: { table: 'app.grouped' },
    says: /^is a view that shows more than the rows of one table;/,
  },
  {
    name: 'that is a view with a trigger INSTEAD OF an update',
    ddl: `${BOXES}; CREATE VIEW app.odd AS SELECT DISTINCT id, last_used_at FROM app.boxes;
      CREATE FUNCTION app.instead() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE TRIGGER instead INSTEAD OF UPDATE ON app.odd FOR EACH ROW EXECUTE FUNCTION app.instead()`,
    options: { table: 'app.odd' },
    says: /^is shown by a view that PostgreSQL can not update by itself;/,
  },
  {
    name: 'that is a view which computes the id',
    ddl: `CREATE TABLE app.boxes (key text PRIMARY KEY, last_used_at timestamptz);
      CREATE VIEW app.shown AS SELECT upper(key) AS id, last_used_at FROM app.boxes`,
    options: { table: 'app.shown' },
    says: /^column "id" is missing;/,
  },
  {
    name: 'that is a materialized view',
    ddl: `${BOXES}; CREATE MATERIALIZED VIEW app.stored AS SELECT * FROM app.boxes; CREATE UNIQUE INDEX ON app.stored (id)`,
    options: { table: 'app.stored' },
    says: /^is a materialized view; expected a table\./,
  },
  {
    name: 'that is a foreign table',
    ddl: `CREATE EXTENSION IF NOT EXISTS file_fdw SCHEMA pg_catalog; DROP SERVER IF EXISTS files CASCADE;
      CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
      CREATE FOREIGN TABLE app.boxes (id uuid, last_used_at timestamptz) SERVER files OPTIONS (filename '/none')`,
    options: TABLE,
    says: /^is a foreign table, and no foreign key can refer to it; expected a table\./,
  },
  {
    name: 'that is UNLOGGED',
    ddl: 'CREATE UNLOGGED TABLE app.boxes (id uuid PRIMARY KEY, last_used_at timestamptz)',
    options: TABLE,
    says: /^is UNLOGGED or temporary;/,
  },
  {
    name: 'with a last use that is generated',
    ddl: `CREATE TABLE app.boxes (id uuid PRIMARY KEY, seen timestamptz,
      used timestamptz GENERATED ALWAYS AS (seen) STORED)`,
    options: { ...TABLE, lastUsedColumn: 'used' },
    says: /^column "used" is generated;/,
  },
  {
    name: 'with a rule ON UPDATE',
    ddl: `${BOXES}; CREATE RULE audit AS ON UPDATE TO app.boxes DO ALSO SELECT 1`,
    options: TABLE,
    says: /^has a rule ON UPDATE \(audit\)/,
  },
  {
    name: 'that is a partition by the last use',
    ddl: `CREATE TABLE app.every (id uuid, used timestamptz) PARTITION BY RANGE ((used AT TIME ZONE 'UTC'));
      CREATE TABLE app.boxes PARTITION OF app.every DEFAULT; CREATE UNIQUE INDEX ON app.boxes (id)`,
    options: { ...TABLE, lastUsedColumn: 'used' },
    says: /^is a partition by used, so a flush would move rows out of it;/,
  },
  ...[
    ['that has no end', 'deleted IS NOT (', '42601: '],
    ['of a column that is not there', 'deletd IS NULL', '42703: .+deletd'],
    ['that is no condition', 'name', '42804: '],
    ['with two statements', 'true); DROP TABLE app.boxes; SELECT (true', '42601: '],
    ['that ends in a comment', 'true /*', '42601: '],
    ['with an aggregate', 'max(last_used_at) > now()', '42803: '],
    ['with a wrong constant', "id = 'x'", '22P02: '],
    ['with a parameter', 'name = $2', '08P01: '],
  ].map(([name, where, text]) => ({
    name: `with a condition ${name}`,
    options: { ...TABLE, where: where! },
    says: new RegExp(`^can't be chosen from by the condition ".+" \\(${text}.+\\); expected one condition`),
  })),
  {
    name: 'with a condition that joins more rows to it',
    options: { ...TABLE, where: 'true) UNION ALL SELECT id, last_used_at FROM app.boxes WHERE (true' },
    says: /^can't be chosen from by the condition|^is a view that shows more/,
  },
]

for (const major of [18, 15] as const) {
  let database: Promise<TestDatabase> | undefined
  for (const { name, ddl = BOXES, options, says } of CASES) {
    test(`a table ${name} is not adopted on PostgreSQL ${major}, and nothing is created`, async t => {
      const on = major === 18 ? await testServer() : await testServer15()
      if (on === null) return t.skip(POSTGRES_15_MISSING)
      database ??= createEmptyDatabase({ on })
      const { connectionString, pool } = await database
      await pool.query(`DROP SCHEMA IF EXISTS app CASCADE; CREATE SCHEMA app; ${ddl}`)
      const before = await catalogObjects(pool)
      await assert.rejects(migrate({ connectionString, ...options }), (error: unknown) => {
        assert.ok(error instanceof WorkspacesTableError, String(error))
        const [, table, text] = /^the table (\S+) can't be adopted: (.+)$/s.exec(error.message) ?? []
        assert.match(text ?? error.message, says)
        assert.equal(table, error.table)
        return true
      })
      assert.deepEqual(await catalogObjects(pool), before)
    })
  }
}

test('what stands in the way of the view is named: a table of the host, rows, ids of another type', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query(`CREATE SCHEMA app; ${BOXES}; CREATE TABLE app.numbers (id bigint PRIMARY KEY, last_used_at timestamptz);
    CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz)`)
  const refused = async (options: AdoptionOptions, text: RegExp) =>
    assert.rejects(migrate({ connectionString, ...options }), text)
  await refused(
    TABLE,
    /app\.boxes can't be adopted: needs a view public\.workspaces, and something of yours has this name/,
  )
  await refused(
    { table: 'workspaces', where: 'true' },
    /public\.workspaces can't be adopted: has the name that its view would have/,
  )
  const direct = await migrate({ connectionString, table: 'workspaces' })
  assert.deepEqual([direct.adoption, direct.workspaces.view], ['kept', false])

  await pool.query(
    "DROP TABLE workspaces CASCADE; CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz); COMMENT ON TABLE workspaces IS 'Created by workspace-usage.'",
  )
  await pool.query('INSERT INTO workspaces SELECT gen_random_uuid()')
  await refused(
    TABLE,
    /the table of this name, which workspace-usage created, holds rows; .+ move its rows to app\.boxes/,
  )
  await refused(
    { table: 'app.numbers' },
    /column "id" has type bigint, and the tables of workspace-usage hold ids of type uuid; .+ --down --all/,
  )
})

test('an id of the table that changes its type is refused by the next migration', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query('CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz)')
  await migrate({ connectionString })
  await pool.query(
    'DROP TABLE workspaces CASCADE; CREATE TABLE workspaces (id bigint PRIMARY KEY, last_used_at timestamptz)',
  )
  await assert.rejects(
    migrate({ connectionString }),
    /"workspaces" can't be adopted: column "id" has type bigint, and the tables of workspace-usage hold ids of type uuid/,
  )
})

test('the owner of the view needs rights on the table, and the refusal names the GRANT', async () => {
  const role = await createLoginRole(await testServer(), 'migrator')
  const database = await createEmptyDatabase()
  const { pool } = database
  const name = pg.escapeIdentifier(role.name)
  await pool.query(`GRANT CREATE ON DATABASE ${pg.escapeIdentifier(database.name)} TO ${name};
    GRANT CREATE ON SCHEMA public TO ${name}; CREATE SCHEMA app; ${BOXES}`)
  const connectionString = role.connectionString(database)
  const attempt = () => migrate({ connectionString, ...TABLE, where: 'NOT deleted' })
  await assert.rejects(
    attempt(),
    /is in a schema that the role .+ may not use; expected the right: GRANT USAGE ON SCHEMA app/,
  )
  await pool.query(`GRANT USAGE ON SCHEMA app TO ${name}`)
  await assert.rejects(
    attempt(),
    /GRANT SELECT \(id, last_used_at, deleted\), UPDATE \(last_used_at\) ON app\.boxes TO/,
  )
  await pool.query(`GRANT SELECT (id, last_used_at), UPDATE (last_used_at) ON app.boxes TO ${name}`)
  await assert.rejects(attempt(), /the right: GRANT SELECT \(deleted\) ON app\.boxes TO/)
  await pool.query(`GRANT SELECT (deleted) ON app.boxes TO ${name}`)
  const { warnings } = await attempt()
  assert.deepEqual(
    warnings.map(({ code, object }) => [code, object]),
    [['no-foreign-key', 'table app.boxes']],
  )
  assert.match(warnings[0]!.remedy, /GRANT REFERENCES \(id\)/)
  await pool.query(`GRANT REFERENCES (id) ON app.boxes TO ${name}`)
  assert.deepEqual((await migrate({ connectionString })).warnings, [])
})

test('a column or a condition without a table is refused before anything is sent', async () => {
  const connectionString = 'postgresql://nowhere.invalid/none'
  for (const options of [{ idColumn: 'key' }, { where: 'true' }, { createdColumn: 'born' }]) {
    await assert.rejects(migrate({ connectionString, ...options }), {
      name: 'InvalidOptionError',
      option: Object.keys(options)[0],
    })
  }
  for (const options of [
    { table: '' },
    { table: '"app' },
    { table: 'app.' },
    { table: 'a', idColumn: '"' },
    { table: 'a', where: ' ' },
  ]) {
    await assert.rejects(migrate({ connectionString, ...options }), { name: 'InvalidOptionError' })
  }
})
