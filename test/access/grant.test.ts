import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { privilegeStatements } from '../../src/access/duties.ts'
import { grantPrivileges, revokePrivileges } from '../../src/access/grant.ts'
import { explainUsage } from '../../src/activity/explain.ts'
import { GrantRefusedError, NotMigratedError, UnknownRoleError } from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
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
