import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import pg from 'pg'
import { diagnose } from '../../src/doctor/diagnose.ts'
import type { Finding } from '../../src/doctor/finding.ts'
import { STORAGE_PARAMETERS } from '../../src/doctor/storage-checks.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { testServer } from '../support/test-server.ts'

/* Each case makes one thing wrong. The doctor must find that, and nothing else. */

interface Case {
  name: string
  ddl: string
  /** Takes it back. */
  undo: string
  /** Severity, code and object of each finding. */
  found: string[]
  only?: 15 | 18
}

const FUNCTION = `CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`

const CASES: Case[] = [
  { name: 'nothing', ddl: '', undo: '', found: [] },
  {
    name: 'an index with a quoted name',
    ddl: 'CREATE INDEX "By Use" ON workspaces (last_used_at)',
    undo: 'DROP INDEX "By Use"',
    found: ['warning index-on-last-used-at index "By Use"'],
  },
  {
    name: 'a row trigger',
    ddl: `${FUNCTION}; CREATE TRIGGER "Touch" BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION touch()`,
    undo: 'DROP FUNCTION touch CASCADE',
    found: ['warning row-trigger trigger "Touch" on workspaces'],
  },
  {
    name: 'a constraint that is NOT VALID',
    ddl: `ALTER TABLE workspaces ADD name text, ADD CONSTRAINT named CHECK (name IS NULL) NOT VALID`,
    undo: 'ALTER TABLE workspaces DROP name',
    found: ['warning constraint-not-valid constraint named on workspaces'],
  },
  {
    name: 'a publication without a replica identity',
    ddl: 'CREATE PUBLICATION host FOR TABLE workspaces; ALTER TABLE workspaces REPLICA IDENTITY NOTHING',
    undo: 'DROP PUBLICATION host; ALTER TABLE workspaces REPLICA IDENTITY DEFAULT',
    found: ['critical update-refused table workspaces'],
  },
  {
    name: 'a fillfactor of 100',
    ddl: 'ALTER TABLE workspaces RESET (fillfactor)',
    undo: 'ALTER TABLE workspaces SET (fillfactor = 75)',
    found: ['note fillfactor table workspaces'],
  },
  {
    name: 'a pg-boss that is too old',
    ddl: 'UPDATE pgboss.version SET version = version - 1',
    undo: 'UPDATE pgboss.version SET version = version + 1',
    found: ['critical pg-boss-old schema pgboss'],
  },
  {
    name: 'a pg-boss that is too new',
    ddl: 'UPDATE pgboss.version SET version = version + 1',
    undo: 'UPDATE pgboss.version SET version = version - 1',
    found: ['critical pg-boss-new schema pgboss'],
  },
  {
    name: 'a pg-boss without a version',
    ddl: 'CREATE TABLE kept AS TABLE pgboss.version; TRUNCATE pgboss.version',
    undo: 'INSERT INTO pgboss.version SELECT * FROM kept; DROP TABLE kept',
    found: ['critical pg-boss-unversioned schema pgboss'],
  },
  {
    name: 'no pg-boss',
    ddl: 'ALTER SCHEMA pgboss RENAME TO elsewhere',
    undo: 'ALTER SCHEMA elsewhere RENAME TO pgboss',
    found: ['critical pg-boss-missing schema pgboss'],
  },
  {
    name: 'a migration that is newer than the package',
    ddl: `INSERT INTO workspace_usage_migration VALUES ('9999_later', '')`,
    undo: `DELETE FROM workspace_usage_migration WHERE name = '9999_later'`,
    found: ['warning migrations-newer 9999_later'],
  },
  {
    name: 'a table of the same name further back in search_path',
    ddl: `CREATE SCHEMA "Other One"; CREATE TABLE "Other One".workspaces (id uuid);
      ALTER DATABASE DB SET search_path = public, "Other One"`,
    undo: 'DROP SCHEMA "Other One" CASCADE; ALTER DATABASE DB RESET search_path',
    found: ['warning shadowed table workspaces'],
  },
  {
    name: 'a table of the same name in a schema that search_path does not name',
    ddl: 'CREATE SCHEMA other; CREATE TABLE other.workspaces (id uuid); CREATE TABLE other.pending_usage ()',
    undo: 'DROP SCHEMA other CASCADE',
    found: [],
  },
  {
    name: 'a table of ours that search_path finds in another schema',
    ddl: `CREATE SCHEMA other; ALTER TABLE refused_usage SET SCHEMA other;
      ALTER DATABASE DB SET search_path = public, other`,
    undo: 'ALTER TABLE other.refused_usage SET SCHEMA public; DROP SCHEMA other; ALTER DATABASE DB RESET search_path',
    found: ['critical schemas-mixed table refused_usage'],
  },
  {
    name: 'tables that search_path does not find',
    ddl: 'CREATE SCHEMA other; ALTER DATABASE DB SET search_path = other',
    undo: 'DROP SCHEMA other; ALTER DATABASE DB RESET search_path',
    found: ['critical search-path table pending_usage'],
  },
  {
    name: 'autovacuum that is off for the marks',
    ddl: 'ALTER TABLE pending_usage SET (autovacuum_enabled = false)',
    undo: 'ALTER TABLE pending_usage RESET (autovacuum_enabled)',
    found: ['warning autovacuum-off table pending_usage'],
  },
  {
    name: 'a storage parameter that was changed and one that was taken away',
    ddl: `ALTER TABLE pending_usage SET (autovacuum_vacuum_threshold = 50);
      ALTER TABLE workspace_usage RESET (fillfactor)`,
    undo: `ALTER TABLE pending_usage SET (autovacuum_vacuum_threshold = 1000);
      ALTER TABLE workspace_usage SET (fillfactor = 75)`,
    found: ['note storage-parameter table pending_usage', 'note storage-parameter table workspace_usage'],
  },
  {
    name: 'a storage parameter that was written in another way',
    ddl: `ALTER TABLE pending_usage SET (autovacuum_vacuum_scale_factor = 0, vacuum_truncate = false)`,
    undo: `ALTER TABLE pending_usage SET (autovacuum_vacuum_scale_factor = 0.0, vacuum_truncate = off)`,
    found: [],
  },
  {
    name: 'a witness that survives a crash',
    ddl: 'ALTER TABLE pending_usage_witness SET LOGGED',
    undo: 'ALTER TABLE pending_usage_witness SET UNLOGGED',
    found: ['warning persistence table pending_usage_witness'],
  },
  {
    name: 'a database that is read-only by default',
    ddl: 'ALTER DATABASE DB SET default_transaction_read_only = on',
    undo: 'ALTER DATABASE DB RESET default_transaction_read_only',
    found: ['critical read-only'],
  },
]

const server15 = await testServer15()

for (const major of [18, 15] as const) {
  const on = major === 18 ? await testServer() : server15
  suite(`the doctor on PostgreSQL ${major}`, { skip: on === null && POSTGRES_15_MISSING }, async () => {
    if (on !== null) await doctorOn(on, major)
  })
}

async function doctorOn(server: string, major: 18 | 15): Promise<void> {
  const {
    pool,
    connectionString,
    name: database,
  } = await createTestDatabase(major === 15 ? { on: server } : {})

  // As if a worker was there.
  await flush(pool)

  for (const { name, ddl, undo, found, only } of CASES) {
    if (only !== undefined && only !== major) continue
    test(`the doctor finds ${name} and nothing else on PostgreSQL ${major}`, async () => {
      const run = (statements: string) =>
        pool.query(
          `SET default_transaction_read_only = off; ${statements.replaceAll('DB', pg.escapeIdentifier(database))}`,
        )
      await run(ddl)
      // A setting of the database is one of new sessions.
      const fresh = heardPool({ connectionString, max: 2 })
      try {
        const { findings, ok, checks } = await diagnose(fresh)
        assert.deepEqual(described(findings), found, JSON.stringify(checks, null, 2))
        assert.equal(ok, !found.some(line => !line.startsWith('note')))
        for (const { message, remedy } of findings) assert.match(`${message} ${remedy}`, /^[A-Za-z"].* /)
        // What looks like a statement is one, to paste.
        for (const { remedy } of findings) {
          const [statement] = /^ALTER TABLE [^)]+\)/.exec(remedy) ?? []
          if (statement !== undefined) await run(statement)
        }
      } finally {
        await fresh.end()
        await run(undo)
      }
    })
  }

  test(`what the doctor expects of storage is what the migrations set on PostgreSQL ${major}`, async () => {
    const { rows } = await pool.query(`
      SELECT relname, coalesce((
        SELECT json_object_agg(option_name, option_value) FROM pg_options_to_table(reloptions)
      ), '{}') AS options
      FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
        AND relname !~ '^workspace_usage_migration' AND relname <> 'workspaces'`)
    assert.deepEqual(
      Object.fromEntries(rows.map(({ relname, options }) => [relname, options])),
      STORAGE_PARAMETERS,
    )
  })
}

/** Without what the server of the tests has on purpose. */
function described(findings: readonly Finding[]): string[] {
  return findings
    .filter(({ code }) => code !== 'not-durable')
    .map(({ severity, code, object }) => [severity, code, object].filter(part => part !== null).join(' '))
}
