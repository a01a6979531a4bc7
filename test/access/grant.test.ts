import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import pg from 'pg'
import { privilegeStatements } from '../../src/access/duties.ts'
import { grantPrivileges, revokePrivileges } from '../../src/access/grant.ts'
import { explainUsage } from '../../src/activity/explain.ts'
import { GrantRefusedError, NotMigratedError, RowSecurityError, UnknownRoleError } from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { migrateDown } from '../../src/schema/migrate-down.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { createLoginRole, type LoginRole } from '../support/roles.ts'
import { createWorkspaces, lastUsedAt, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

const server = await testServer()
const marker = await createLoginRole(server, 'marker')
const worker = await createLoginRole(server, 'worker')
const reader = await createLoginRole(server, 'reader')
const stranger = await createLoginRole(server, 'stranger')
const duties = { markers: [marker.name], workers: [worker.name], readers: [reader.name] }

const database = await createTestDatabase()
const { pool } = database
await grantPrivileges(pool, duties)
const [id] = await createWorkspaces(pool, 1)

test('grantPrivileges grants nothing to any role if one of the roles does not exist', async () => {
  const granting = grantPrivileges(pool, { markers: [stranger.name, 'public'], readers: ['no one"; --'] })
  await assert.rejects(granting, new UnknownRoleError(['public', 'no one"; --']))
  await refused(stranger.pool(database), [`INSERT INTO pending_usage (workspace_id) VALUES ('${id}')`])
})

test('grantPrivileges and revokePrivileges fail and change nothing for a role that does not own the tables', async () => {
  const db = worker.pool(database)
  const [first] = await privilegeStatements(pool, 'grant', { markers: [stranger.name] })
  const granting = grantPrivileges(db, { markers: [stranger.name] })
  await assert.rejects(granting, new GrantRefusedError(first!))
  await assert.rejects(revokePrivileges(db, { readers: [reader.name] }), GrantRefusedError)
  assert.equal((await explainUsage(reader.pool(database), id!)).exists, true)
})

test('grantPrivileges fails for a role that holds a privilege but may not pass it on, where PostgreSQL only warns', async () => {
  const db = stranger.pool(database)
  const name = pg.escapeIdentifier(stranger.name)
  await pool.query(`GRANT SELECT ON workspace_activity TO ${name}`)
  await assert.rejects(
    grantPrivileges(db, { readers: [reader.name] }),
    (error: GrantRefusedError) =>
      error instanceof GrantRefusedError && (error.cause as { code: string }).code === '01007',
  )
  await pool.query(`REVOKE SELECT ON workspace_activity FROM ${name}`)
})

test('a second grantPrivileges changes nothing, and revokePrivileges takes everything back and can be repeated', async () => {
  const before = await privilegesHeld(pool)
  assert.ok(before.length > 0)
  await grantPrivileges(pool, duties)
  assert.deepEqual(await privilegesHeld(pool), before)
  await revokePrivileges(pool, { workers: duties.workers })
  assert.deepEqual((await explainUsage(reader.pool(database), id!)).exists, true)
  await revokePrivileges(pool, duties)
  await revokePrivileges(pool, duties)
  assert.deepEqual(await privilegesHeld(pool), [])
  for (const role of [marker, worker, reader]) {
    await refused(role.pool(database), [
      `INSERT INTO pending_usage (workspace_id) VALUES ('${id}')`,
      'SELECT FROM pending_usage',
      'SELECT last_used_at FROM workspaces',
      'SELECT FROM workspace_activity',
      'SELECT FROM pgboss.job',
    ])
  }
})

test('a grant gives USAGE of schemas other than public, and a revoke leaves that USAGE', async () => {
  const other = await createEmptyDatabase()
  await other.pool.query(`CREATE SCHEMA "my usage"; CREATE SCHEMA host;
    CREATE TABLE host.workspaces (id uuid PRIMARY KEY, last_used_at timestamptz)`)
  const path = encodeURIComponent('-c search_path="my\\ usage",host')
  const at = (url: string) => `${url}?options=${path}`
  const admin = await other.connect({ connectionString: at(other.connectionString) })
  await assert.rejects(privilegeStatements(admin, 'grant', duties), NotMigratedError)
  await migrate({ connectionString: at(other.connectionString) })
  for (const statement of await privilegeStatements(admin, 'grant', duties)) await admin.query(statement)

  const [made] = (await admin.query('INSERT INTO workspaces VALUES (gen_random_uuid()) RETURNING id')).rows
  const as = (role: LoginRole) => other.connect({ connectionString: at(role.connectionString(other)) })
  const periodEnd = await storeClosedMarks(admin, [made.id], { agoMs: 60_000 })
  assert.equal((await markUsage(await as(marker), made.id)).stored, 1)
  assert.equal((await flush(await as(worker))).updated, 1)
  assert.deepEqual(await lastUsedAt(admin, [made.id]), [periodEnd])
  assert.equal((await explainUsage(await as(reader), made.id)).sources.length, 2)

  for (const statement of await privilegeStatements(admin, 'revoke', duties)) await admin.query(statement)
  assert.deepEqual(await privilegesHeld(admin), [])
  const { rows } = await admin.query(`SELECT has_schema_privilege($1, 'my usage', 'USAGE') AS usable`, [
    marker.name,
  ])
  assert.deepEqual(rows, [{ usable: true }])
})

test('grantPrivileges names the schema that holds the tables if search_path does not find them', async () => {
  const other = await createEmptyDatabase()
  await other.pool.query('CREATE SCHEMA "My ""usage"" 利用"')
  const at = `${other.connectionString}?options=${encodeURIComponent('-c search_path="My\\ ""usage""\\ 利用"')}`
  await migrate({ connectionString: at })
  await assert.rejects(grantPrivileges(other.pool, duties), {
    name: 'SearchPathError',
    message:
      'no schema of search_path ("$user", public) has the table "pending_usage"; found in the schema ' +
      '"My \\"usage\\" 利用". Nothing was changed. Name the schema (--schema, or inSchema() in a program), or set search_path in the connection string or for the role ' +
      '(ALTER ROLE … SET search_path). Let the role use the schema (USAGE).',
  })
  const found = new pg.Pool({ connectionString: at, max: 1 })
  try {
    assert.ok((await grantPrivileges(found, duties)).length > 0)
  } finally {
    await found.end()
  }
})

test('grantPrivileges works whatever the settings of the database and the name of a role are', async () => {
  const role = await createLoginRole(server, `ワーカー's "\\ ü`)
  const other = await createTestDatabase()
  await other.pool.query(`DO $$ BEGIN EXECUTE format('
    ALTER DATABASE %1$I SET default_transaction_isolation = serializable;
    ALTER DATABASE %1$I SET standard_conforming_strings = off;
    ALTER DATABASE %1$I SET DateStyle = "SQL, DMY";
    ALTER DATABASE %1$I SET client_min_messages = error;
    ALTER DATABASE %1$I SET row_security = off', current_database()); END $$`)
  const db = new pg.Pool({ connectionString: other.connectionString, max: 1 })
  try {
    await grantPrivileges(db, { markers: [role.name], workers: [role.name], readers: [role.name] })
  } finally {
    await db.end()
  }
  const own = role.pool(other)
  const [made] = await createWorkspaces(other.pool, 1)
  await storeClosedMarks(other.pool, [made!])
  assert.equal((await markUsage(own, made!)).stored, 1)
  assert.equal((await flush(own)).updated, 1)
  assert.equal((await explainUsage(own, made!)).exists, true)
})

test('grantPrivileges grants nothing to a worker if row security would hide rows from it, and tells the remedy', async () => {
  const other = await createTestDatabase()
  await other.pool.query('ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY')
  await assert.rejects(
    grantPrivileges(other.pool, duties),
    (error: RowSecurityError) =>
      error instanceof RowSecurityError &&
      error.table === 'workspaces' &&
      error.role === worker.name &&
      error.message.includes('BYPASSRLS'),
  )
  assert.deepEqual(await privilegesHeld(other.pool), [])
  // The views belong to the superuser of the tests, so readers see all rows. A marker meets no policy of workspaces.
  await grantPrivileges(other.pool, { markers: [marker.name], readers: [reader.name] })
  await revokePrivileges(other.pool, duties)
})

test('grantPrivileges grants nothing to a reader if row security would hide rows from the owner of the views', async () => {
  const owner = await createLoginRole(server, 'owner')
  const other = await createTestDatabase()
  const name = pg.escapeIdentifier(owner.name)
  await other.pool.query(`ALTER VIEW workspace_activity OWNER TO ${name}; GRANT SELECT ON workspaces TO ${name};
    ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY`)
  await assert.rejects(
    grantPrivileges(other.pool, { readers: [reader.name] }),
    (error: RowSecurityError) => error instanceof RowSecurityError && error.role === owner.name,
  )
  await other.drop()
})

test('roles that were granted with the release before marks could be set aside go on flushing after an upgrade', async () => {
  const other = await createEmptyDatabase()
  const { connectionString } = other
  await migrate({ connectionString })
  while ((await migrateDown({ connectionString })) !== '0005_set_aside_usage');
  const name = pg.escapeIdentifier(worker.name)
  // As the released `grant --worker` gave it.
  await other.pool.query(`
    GRANT SELECT, DELETE, UPDATE (source) ON pending_usage TO ${name};
    GRANT INSERT ON pending_usage_witness TO ${name};
    GRANT SELECT (id, last_used_at), UPDATE (last_used_at) ON workspaces TO ${name};
    GRANT SELECT, INSERT, UPDATE (last_used_at) ON workspace_usage TO ${name}`)
  await migrate({ connectionString })
  const ids = await createWorkspaces(other.pool, 2)
  await storeClosedMarks(other.pool, [...ids, '00000000-0000-4000-8000-000000000000'])
  const { flushed, awaited } = await flush(worker.pool(other))
  assert.deepEqual({ flushed, awaited }, { flushed: 2, awaited: 1 })
  const upgraded = (await privilegesHeld(other.pool)).filter(line => !line.includes('pgboss'))
  await grantPrivileges(other.pool, { workers: [worker.name] })
  const granted = await privilegesHeld(other.pool)
  assert.deepEqual(
    granted.filter(line => /usage|workspaces/.test(line.slice(line.indexOf(' on ')))),
    upgraded,
  )
})

test('a connection that breaks during a grant is an error of grantPrivileges, and does not end the process', async () => {
  const other = await createTestDatabase()
  const blocker = await other.connect()
  await blocker.query(`
    CREATE FUNCTION wait() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); END';
    CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('GRANT') EXECUTE FUNCTION wait();
    SELECT pg_advisory_lock(1)`)
  // The pool of the other tests listens for errors of its clients. A host's pool may not.
  const hosts = new pg.Pool({ connectionString: other.connectionString, max: 1 })
  hosts.on('error', () => {})
  const sockets: Socket[] = []
  hosts.on('connect', client => {
    sockets.push((client as unknown as { connection: { stream: Socket } }).connection.stream)
  })
  const granting = grantPrivileges(hosts, { markers: [marker.name] }).catch(error => error)
  await until('the session of the grant waits', async () => {
    const { rows } = await pool.query(
      `SELECT FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'`,
      [other.name],
    )
    return rows.length > 0
  })
  const cut = new Error('the cable was cut')
  sockets[0]!.destroy(cut)
  assert.equal(await granting, cut)
  await hosts.end()
})

async function refused(db: pg.Pool, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await assert.rejects(db.query(statement), { code: '42501' }, statement)
}

/** Every privilege that a role of the tests holds on a table, a column, a function or the schema pgboss. */
async function privilegesHeld(db: pg.Pool | pg.Client): Promise<string[]> {
  const { rows } = await db.query(
    `SELECT format('%s %s on %s', r.rolname, held.privilege_type, held.what) AS line
    FROM (
      SELECT c.relname AS what, (aclexplode(c.relacl)).*, c.relowner AS owner FROM pg_class c
      UNION ALL
      SELECT c.relname || '.' || a.attname, (aclexplode(a.attacl)).*, c.relowner
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      UNION ALL
      SELECT proname, (aclexplode(proacl)).*, proowner FROM pg_proc
      UNION ALL
      SELECT nspname, (aclexplode(nspacl)).*, nspowner FROM pg_namespace WHERE nspname = 'pgboss'
    ) held JOIN pg_roles r ON r.oid = held.grantee
    WHERE held.grantee <> held.owner AND r.rolname LIKE 'usage %'
    ORDER BY 1`,
  )
  return (rows as { line: string }[]).map(({ line }) => line)
}
