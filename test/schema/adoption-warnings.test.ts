import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { adoptionWarnings } from '../../src/schema/adoption-warnings.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { majorVersion } from '../support/major-version.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

/*
 * Each case changes the table, asks for the warnings, and flushes. So a warning is held against what really happens:
 * whether the update is HOT, and whether the flush fails.
 */
interface Case {
  name: string
  /** Runs in the transaction that is rolled back at the end. */
  ddl: string
  /** The codes with their objects. */
  warned: string[]
  /** Whether the update is HOT. Default: true. */
  hot?: boolean
  /** The SQLSTATE with which the flush of everybody fails. */
  fails?: string
  /** The versions of PostgreSQL that have it: the first one, and the last one. */
  from?: number
  upTo?: number
}

const UNIQUE = 'unique-index-on-last-used-at: index'
const INDEX = 'index-on-last-used-at: index'
const FUNCTION = `CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`
const PUBLISH = 'CREATE PUBLICATION host FOR TABLE workspaces'

const CASES: Case[] = [
  { name: 'nothing special', ddl: 'SELECT', warned: [] },
  {
    name: 'an index',
    ddl: 'CREATE INDEX i ON workspaces (last_used_at)',
    warned: [`${INDEX} i`],
    hot: false,
  },
  {
    name: 'a last column of an index',
    ddl: 'CREATE INDEX i ON workspaces (id, last_used_at)',
    warned: [`${INDEX} i`],
    hot: false,
  },
  {
    name: 'an included column',
    ddl: 'CREATE INDEX i ON workspaces (id) INCLUDE (last_used_at)',
    warned: [`${INDEX} i`],
    hot: false,
  },
  {
    name: 'an expression of an index',
    ddl: `CREATE INDEX "My i" ON workspaces ((last_used_at AT TIME ZONE 'UTC'))`,
    warned: [`${INDEX} "My i"`],
    hot: false,
  },
  {
    name: 'a predicate of an index',
    ddl: 'CREATE INDEX i ON workspaces (id) WHERE last_used_at IS NULL',
    warned: [`${INDEX} i`],
    hot: false,
  },
  {
    name: 'a generated column with an index',
    ddl: `ALTER TABLE workspaces ADD day date GENERATED ALWAYS AS ((last_used_at AT TIME ZONE 'UTC')::date) STORED;
      CREATE INDEX i ON workspaces (day)`,
    warned: [`${INDEX} i`],
    hot: false,
  },
  {
    name: 'an exclusion constraint',
    ddl: 'ALTER TABLE workspaces ADD CONSTRAINT x EXCLUDE USING btree (last_used_at WITH =)',
    warned: [`${INDEX} x`],
    hot: false,
  },
  {
    name: 'a unique constraint',
    ddl: 'ALTER TABLE workspaces ADD CONSTRAINT u UNIQUE (id, last_used_at)',
    warned: [`${UNIQUE} u`],
    hot: false,
  },
  {
    name: 'an included column of a unique index',
    ddl: 'CREATE UNIQUE INDEX u ON workspaces (id) INCLUDE (last_used_at)',
    warned: [`${INDEX} u`],
    hot: false,
  },
  {
    name: 'a partial unique index',
    ddl: 'CREATE UNIQUE INDEX u ON workspaces (id, last_used_at) WHERE id IS NOT NULL',
    warned: [`${INDEX} u`],
    hot: false,
  },
  {
    name: 'a BRIN index, which costs nothing since PostgreSQL 16,',
    ddl: 'CREATE INDEX i ON workspaces USING brin (last_used_at)',
    warned: [],
    from: 16,
  },
  {
    name: 'a BRIN index before PostgreSQL 16',
    ddl: 'CREATE INDEX i ON workspaces USING brin (last_used_at)',
    warned: [`${INDEX} i`],
    hot: false,
    upTo: 15,
  },
  {
    name: 'an index of another column, and a fillfactor of 100,',
    ddl: `ALTER TABLE workspaces ADD owner text; CREATE INDEX ON workspaces (owner);
      ALTER TABLE workspaces SET (fillfactor = 100)`,
    warned: [],
  },
  {
    name: 'a row trigger',
    ddl: `${FUNCTION}; CREATE TRIGGER "Touch" BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION touch()`,
    warned: ['row-trigger: trigger "Touch" on workspaces'],
  },
  {
    name: 'a constraint trigger',
    ddl: `${FUNCTION}; CREATE CONSTRAINT TRIGGER t AFTER UPDATE OF last_used_at ON workspaces DEFERRABLE
      FOR EACH ROW EXECUTE FUNCTION touch()`,
    warned: ['row-trigger: trigger t on workspaces'],
  },
  {
    name: 'a statement trigger',
    ddl: `${FUNCTION}; CREATE TRIGGER t AFTER INSERT OR UPDATE ON workspaces EXECUTE FUNCTION touch()`,
    warned: ['statement-trigger: trigger t on workspaces'],
  },
  {
    name: 'triggers that do not fire',
    ddl: `${FUNCTION};
      CREATE TRIGGER a BEFORE UPDATE OF id ON workspaces FOR EACH ROW EXECUTE FUNCTION touch();
      CREATE TRIGGER b BEFORE INSERT OR DELETE ON workspaces FOR EACH ROW EXECUTE FUNCTION touch();
      CREATE TRIGGER c BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION touch();
      CREATE TRIGGER d BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION touch();
      ALTER TABLE workspaces DISABLE TRIGGER c; ALTER TABLE workspaces ENABLE REPLICA TRIGGER d`,
    warned: [],
  },
  {
    name: 'a check that is NOT VALID',
    ddl: `ALTER TABLE workspaces ADD name text NOT NULL DEFAULT '',
      ADD CONSTRAINT named CHECK (name IS NOT NULL) NOT VALID`,
    warned: ['constraint-not-valid: constraint named on workspaces'],
  },
  {
    name: 'NOT NULL that is NOT VALID',
    ddl: `ALTER TABLE workspaces ADD name text DEFAULT '', ADD CONSTRAINT named NOT NULL name NOT VALID`,
    warned: ['constraint-not-valid: constraint named on workspaces'],
    from: 18,
  },
  {
    name: 'a check that is NOT ENFORCED',
    ddl: 'ALTER TABLE workspaces ADD CONSTRAINT c CHECK (last_used_at IS NULL) NOT ENFORCED',
    warned: [],
    from: 18,
  },
  {
    name: 'a check on last_used_at',
    ddl: `ALTER TABLE workspaces ADD CONSTRAINT late CHECK (last_used_at > '2020-01-01Z')`,
    warned: ['check-on-last-used-at: constraint late on workspaces'],
  },
  {
    name: 'a foreign key to last_used_at',
    ddl: `ALTER TABLE workspaces ADD CONSTRAINT u UNIQUE (last_used_at);
      CREATE TABLE child (used timestamptz CONSTRAINT fk REFERENCES workspaces (last_used_at) ON UPDATE CASCADE)`,
    warned: [`${UNIQUE} u`, 'foreign-key-on-last-used-at: constraint fk on child'],
    hot: false,
  },
  {
    name: 'a foreign key from last_used_at',
    ddl: `CREATE TABLE days (day timestamptz PRIMARY KEY);
      ALTER TABLE workspaces ADD CONSTRAINT fk FOREIGN KEY (last_used_at) REFERENCES days DEFERRABLE INITIALLY DEFERRED`,
    warned: ['foreign-key-on-last-used-at: constraint fk on workspaces'],
  },
  {
    name: 'a child without rows',
    ddl: 'CREATE TABLE child () INHERITS (workspaces)',
    warned: ['children: table child'],
  },
  { name: 'a publication with a primary key', ddl: PUBLISH, warned: [] },
  {
    name: 'a publication without a replica identity',
    ddl: `${PUBLISH}; ALTER TABLE workspaces REPLICA IDENTITY NOTHING`,
    warned: ['update-refused: table workspaces'],
    fails: '55000',
  },
  {
    name: 'a publication of all tables without a replica identity',
    ddl: `CREATE PUBLICATION host FOR ALL TABLES; ALTER TABLE workspaces REPLICA IDENTITY NOTHING`,
    warned: ['update-refused: table workspaces'],
    fails: '55000',
  },
  {
    name: 'a publication of inserts only without a replica identity',
    ddl: `CREATE PUBLICATION host FOR TABLE workspaces WITH (publish = 'insert');
      ALTER TABLE workspaces REPLICA IDENTITY NOTHING`,
    warned: [],
  },
  {
    name: 'a filter of a publication that uses a column outside of the replica identity',
    ddl: `CREATE PUBLICATION host FOR TABLE workspaces WHERE (last_used_at IS NOT NULL)`,
    warned: ['update-refused: table workspaces'],
    fails: '42P10',
  },
  {
    name: 'a publication with REPLICA IDENTITY FULL',
    ddl: `${PUBLISH}; ALTER TABLE workspaces REPLICA IDENTITY FULL`,
    warned: ['replica-identity-full: table workspaces'],
  },
]

const server15 = await testServer15()

for (const major of [18, 15] as const) {
  const on = major === 18 ? await testServer() : server15
  suite(`adoption warnings on PostgreSQL ${major}`, {
    skip: on === null && POSTGRES_15_MISSING,
  }, async () => {
    if (on !== null) await warningsOn(on, major)
  })
}

async function warningsOn(server: string, major: 18 | 15): Promise<void> {
  const database = await createTestDatabase(major === 15 ? { on: server } : {})
  const { pool } = database
  const version = await majorVersion(pool)
  const ids = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, ids)

  for (const { name, ddl, warned, hot = true, fails, from = 0, upTo = 99 } of CASES) {
    if (version < from || version > upTo) continue
    test(`${name} has the warnings that say what a flush really does on PostgreSQL ${major}`, async () => {
      const client = await database.connect()
      try {
        await client.query('BEGIN')
        await client.query(ddl)
        await client.query('SAVEPOINT asked')
        const warnings = await adoptionWarnings(client)
        await client.query('ROLLBACK TO SAVEPOINT asked')
        assert.deepEqual(
          warnings.map(({ code, object }) => `${code}: ${object}`),
          warned,
        )
        if (fails !== undefined) {
          await assert.rejects(flush(client), { code: fails })
        } else {
          const { flushed } = await flush(client)
          assert.equal(flushed, 1)
          const { rows } = await client.query(
            `SELECT pg_stat_get_xact_tuples_hot_updated('workspaces'::regclass)::int AS hot`,
          )
          assert.equal(rows[0].hot, hot ? 1 : 0)
        }
      } finally {
        // Closing the session rolls back.
        await client.end()
      }
    })
  }
}

test('migrate logs, returns and repeats the warnings, also of partitions, and each says what it means and what helps', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query(`
    CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz) PARTITION BY HASH (id);
    CREATE TABLE part PARTITION OF workspaces FOR VALUES WITH (MODULUS 1, REMAINDER 0);
    CREATE INDEX everywhere ON workspaces (last_used_at);
    CREATE INDEX there ON part (last_used_at);
    ${FUNCTION};
    CREATE TRIGGER t AFTER UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE TRIGGER never AFTER UPDATE ON part EXECUTE FUNCTION touch()`)
  for (const run of [1, 2]) {
    const { logger, lines } = collectLog()
    const { warnings } = await migrate({ connectionString, logger })
    assert.deepEqual(
      warnings.map(({ code, object }) => `${code}: ${object}`),
      [`${INDEX} everywhere`, `${INDEX} there`, 'row-trigger: trigger t on workspaces'],
      `run ${run}`,
    )
    const logged = lines.filter(({ level }) => level === 'warn')
    assert.deepEqual(
      logged.map(({ fields }) => fields),
      warnings,
    )
    for (const { consequence, remedy } of warnings)
      assert.match(`${consequence} ${remedy}`, /^[A-Z].*\. [A-Z].*\.$/)
  }
})
