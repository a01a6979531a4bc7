import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { grantPrivileges } from '../../src/access/grant.ts'
import { explainUsage } from '../../src/activity/explain.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { diagnose } from '../../src/doctor/diagnose.ts'
import { flush } from '../../src/flush/flush.ts'
import type { AdoptionOptions } from '../../src/schema/adopt.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { uninstall } from '../../src/schema/uninstall.ts'
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole, type LoginRole } from '../support/roles.ts'
import { schemaDump } from '../support/schema-dump.ts'
import { testServer } from '../support/test-server.ts'

/*
 * Each kind of host is adopted by a role that is no superuser and owns the host's table. A worker and a reader get what
 * `grant` gives, and have no right on the table.
 */
interface Host {
  name: string
  /** What the role that migrates runs beforehand, in a database with an empty schema `app`. */
  ddl: string
  options: AdoptionOptions
  /** Two ids of the table. */
  ids: [string, string]
  /** Whether the role that migrates has BYPASSRLS. */
  bypasses?: boolean
  codes?: string[]
}

const UUIDS: [string, string] = [
  '00000000-0000-4000-8000-000000000001',
  '00000000-0000-4000-8000-000000000002',
]
const PLAIN = { table: 'app.boxes' }
const BOXES = 'CREATE TABLE app.boxes (id uuid PRIMARY KEY, last_used_at timestamptz)'
const rows = (ids: readonly string[], table = 'app.boxes', column = 'id') =>
  `INSERT INTO ${table} (${column}) SELECT unnest('{${ids.join()}}'::text[])`

const HOSTS: Host[] = [
  {
    name: 'with camel-case columns and a name with a dot and spaces',
    ddl: `CREATE TABLE app."My.Sand Boxes" ("sandboxId" uuid PRIMARY KEY, "lastActivityAt" timestamptz,
      "createdAt" timestamptz DEFAULT '2026-01-01Z');
      INSERT INTO app."My.Sand Boxes" SELECT unnest('{${UUIDS.join()}}'::uuid[])`,
    options: {
      table: 'app."My.Sand Boxes"',
      idColumn: 'sandboxId',
      lastUsedColumn: 'lastActivityAt',
      createdColumn: '"createdAt"',
    },
    ids: UUIDS,
  },
  {
    name: 'with bigint ids that it generates',
    ddl: `CREATE TABLE app.boxes (key bigint GENERATED ALWAYS AS IDENTITY (START 9007199254740993) PRIMARY KEY,
      used timestamptz); INSERT INTO app.boxes SELECT FROM generate_series(1, 2)`,
    options: { ...PLAIN, idColumn: 'key', lastUsedColumn: 'used' },
    ids: ['9007199254740993', '9007199254740994'],
  },
  {
    name: 'with integer ids',
    ddl: 'CREATE TABLE app.boxes (id integer PRIMARY KEY, last_used_at timestamptz); INSERT INTO app.boxes VALUES (-1), (7)',
    options: PLAIN,
    ids: ['-1', '7'],
  },
  {
    name: 'with names as ids',
    ddl: `CREATE TABLE app.boxes (id varchar(40) COLLATE "C" PRIMARY KEY, last_used_at timestamptz);
      ${rows(['Ada', 'ada'])}`,
    options: PLAIN,
    ids: ['Ada', 'ada'],
  },
  {
    name: 'that is partitioned by hash of the id',
    ddl: `CREATE TABLE app.boxes (id uuid PRIMARY KEY, last_used_at timestamptz) PARTITION BY HASH (id);
      ${[0, 1, 2].map(n => `CREATE TABLE app.boxes_${n} PARTITION OF app.boxes FOR VALUES WITH (MODULUS 3, REMAINDER ${n})`).join(';')};
      INSERT INTO app.boxes SELECT unnest('{${UUIDS.join()}}'::uuid[])`,
    options: PLAIN,
    ids: UUIDS,
  },
  {
    name: 'under row security that does not apply to its owner',
    ddl: `${BOXES}; INSERT INTO app.boxes SELECT unnest('{${UUIDS.join()}}'::uuid[]);
      ALTER TABLE app.boxes ENABLE ROW LEVEL SECURITY`,
    options: PLAIN,
    ids: UUIDS,
  },
  {
    name: 'under row security that is forced, adopted by a role with BYPASSRLS',
    ddl: `${BOXES}; INSERT INTO app.boxes SELECT unnest('{${UUIDS.join()}}'::uuid[]);
      ALTER TABLE app.boxes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY`,
    options: PLAIN,
    ids: UUIDS,
    bypasses: true,
  },
  {
    name: 'whose rows a view of its own shows',
    ddl: `CREATE TABLE app.boxes (id uuid PRIMARY KEY, seen timestamptz, kind text DEFAULT 'box');
      INSERT INTO app.boxes SELECT unnest('{${UUIDS.join()}}'::uuid[]);
      CREATE VIEW app.shown AS SELECT kind, upper(kind) AS loud, (SELECT b.id FROM app.boxes b LIMIT 1) AS first,
        seen AS at, id AS key FROM app.boxes WHERE kind = 'box'`,
    options: { table: 'app.shown', idColumn: 'key', lastUsedColumn: 'at' },
    ids: UUIDS,
  },
  {
    name: 'with triggers that have a search_path of their own',
    ddl: `${BOXES}; INSERT INTO app.boxes SELECT unnest('{${UUIDS.join()}}'::uuid[]);
      CREATE TABLE app.log (line text);
      CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = app
        AS 'BEGIN INSERT INTO log VALUES (NEW.id); RETURN NEW; END';
      CREATE TRIGGER note BEFORE UPDATE ON app.boxes FOR EACH ROW EXECUTE FUNCTION app.note()`,
    options: PLAIN,
    ids: UUIDS,
    codes: ['row-trigger'],
  },
]

for (const major of [18, 15] as const) {
  for (const host of HOSTS) {
    test(`a host ${host.name} is adopted on PostgreSQL ${major}, marked, flushed by a worker without rights on it, and asked`, async t => {
      const server = major === 18 ? await testServer() : await testServer15()
      if (server === null) return t.skip(POSTGRES_15_MISSING)
      const { database, migrator, worker } = await prepared(server, host)
      const before = await schemaDump(database.pool, 'app')
      const connectionString = migrator.connectionString(database)
      const result = await migrate({ connectionString, ...host.options })
      assert.equal(result.adoption, 'created')
      assert.deepEqual(
        result.warnings.map(({ code }) => code),
        host.codes ?? [],
      )
      assert.equal((await migrate({ connectionString, ...host.options })).adoption, 'kept')
      const owner = migrator.pool(database)
      await grantPrivileges(owner, { workers: [worker.name], markers: [worker.name], readers: [worker.name] })
      assert.equal(await rightsOnHost(database, worker), 0)

      const pool = worker.pool(database)
      const [used, unused] = host.ids
      await pool.query('INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING', [used])
      assert.deepEqual(await pendingOf(pool, used), [true])
      await closePeriods(database)
      const { flushed, updated, unknown, held } = await flush(pool)
      assert.deepEqual({ flushed, updated, unknown, held }, { flushed: 1, updated: 1, unknown: 0, held: 0 })
      assert.deepEqual(await pendingOf(pool, used), [false])
      const idle: string[] = []
      for await (const { workspaceId } of idleWorkspaces(pool, { idleForSeconds: 3_000 }))
        idle.push(workspaceId)
      assert.deepEqual(idle.sort(), [unused, used].sort())

      const { findings } = await diagnose(owner)
      assert.deepEqual(
        findings.filter(({ severity, code }) => severity !== 'note' && !host.codes?.includes(code)),
        [],
      )
      await uninstall({ connectionString })
      assert.equal(await schemaDump(database.pool, 'app'), before)
    })
  }
}

test('row security that applies to the owner of the view is refused, whatever the role of the worker', async () => {
  const host = {
    name: '',
    ddl: `${BOXES}; ALTER TABLE app.boxes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY`,
  }
  const { database, migrator, worker } = await prepared(await testServer(), host)
  const connectionString = migrator.connectionString(database)
  await assert.rejects(migrate({ connectionString, ...PLAIN }), {
    name: 'RowSecurityError',
    table: 'boxes',
    role: migrator.name,
  })
  await database.pool.query('ALTER TABLE app.boxes NO FORCE ROW LEVEL SECURITY')
  await migrate({ connectionString, ...PLAIN })
  await database.pool.query('ALTER TABLE app.boxes FORCE ROW LEVEL SECURITY')
  const refused = { name: 'RowSecurityError', table: 'boxes', role: migrator.name }
  await assert.rejects(grantPrivileges(database.pool, { workers: [worker.name] }), refused)
  await assert.rejects(grantPrivileges(database.pool, { readers: [worker.name] }), refused)
  const { findings } = await diagnose(database.pool, { as: worker.name })
  assert.ok(findings.some(({ code, object }) => code === 'row-security' && object === 'table boxes'))
})

async function prepared(
  server: string,
  { ddl, bypasses }: Pick<Host, 'ddl' | 'bypasses'>,
): Promise<{ database: TestDatabase; migrator: LoginRole; worker: LoginRole }> {
  const migrator = await createLoginRole(server, 'migrator')
  const worker = await createLoginRole(server, 'worker')
  const database = await createEmptyDatabase({ on: server })
  const name = pg.escapeIdentifier(migrator.name)
  await database.pool.query(`
    GRANT CREATE ON DATABASE ${pg.escapeIdentifier(database.name)} TO ${name}; GRANT CREATE ON SCHEMA public TO ${name};
    CREATE SCHEMA app AUTHORIZATION ${name}; ${bypasses ? `ALTER ROLE ${name} BYPASSRLS;` : ''}
    SET ROLE ${name}; ${ddl}; RESET ROLE`)
  return { database, migrator, worker }
}

/** How many relations of the host the role has any right on. */
async function rightsOnHost({ pool }: TestDatabase, { name }: LoginRole): Promise<number> {
  const { rows } = await pool.query(
    `SELECT count(*)::int AS count FROM pg_class
    WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'p', 'v')
      AND has_any_column_privilege($1, oid, 'SELECT, INSERT, UPDATE, REFERENCES')`,
    [name],
  )
  return rows[0].count
}

/** Of each source of a workspace, whether its last use is pending. */
async function pendingOf(pool: pg.Pool, id: string): Promise<boolean[]> {
  const { exists, workspaceId, sources } = await explainUsage(pool, id)
  assert.deepEqual({ exists, workspaceId }, { exists: true, workspaceId: id })
  return sources.map(({ pending }) => pending)
}

/** As if all marks had been made an hour ago. */
async function closePeriods({ pool }: TestDatabase): Promise<void> {
  await pool.query(`UPDATE pending_usage SET period_end = period_end - interval '1 hour'`)
}
