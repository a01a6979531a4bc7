import assert from 'node:assert/strict'
import { beforeEach, suite, test } from 'node:test'
import pg from 'pg'
import { grantPrivileges, revokePrivileges } from '../../src/access/grant.ts'
import { type Duty, explainPrivilegeError } from '../../src/access/refusal.ts'
import { InsufficientPrivilegeError } from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

const role = await createLoginRole(await testServer(), 'worker')
const database = await createTestDatabase()
const { pool } = database
const workers = [role.name]
await pool.query(`
  ALTER TABLE workspaces ADD COLUMN name text DEFAULT 'mine', ADD COLUMN "updatedAt" timestamptz;
  CREATE TABLE audit (workspace_id uuid);
  -- A name that is in the text of every such error.
  CREATE TABLE permission (id uuid)`)
// One session: a refusal is told before its transaction has let go of what it locked.
const db = await database.connect({ connectionString: role.connectionString(database) })
const quoted = pg.escapeIdentifier(role.name)

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE; DROP TRIGGER IF EXISTS host ON workspaces')
  await pool.query(`REVOKE ALL ON workspaces FROM ${quoted}`)
  await grantPrivileges(pool, { workers })
  await storeClosedMarks(pool, await createWorkspaces(pool, 2))
})

suite('what a role lacks is named', () => {
  test('columns that a trigger of the host writes, with the GRANT that makes the flush work', async () => {
    await createTrigger(`UPDATE workspaces SET "updatedAt" = now(), name = 'x' WHERE id = NEW.id`)
    const error = await refusal()
    assert.deepEqual(
      [error.role, error.table, error.columns],
      [role.name, 'public.workspaces', ['name', 'updatedAt']],
    )
    assert.equal(error.grant, `GRANT UPDATE ("name", "updatedAt") ON "public"."workspaces" TO ${quoted};`)
    assert.equal(
      error.message,
      `role ${JSON.stringify(role.name)} lacks a privilege: permission denied for table workspaces ` +
        '(column name, updatedAt). A trigger of yours wrote there as this role, which is more than a ' +
        `worker needs itself; its function could be SECURITY DEFINER as well. Run: ${error.grant}`,
    )
    assert.equal((error.cause as { code: string }).code, '42501')

    await pool.query(error.grant)
    assert.equal((await flush(db)).updated, 2)
    // What a statement reads is not told apart from what it writes: that comes second.
    await storeClosedMarks(pool, await createWorkspaces(pool, 2))
    await createTrigger('UPDATE workspaces SET name = upper(name) WHERE id = NEW.id')
    const second = await refusal()
    assert.equal(second.grant, `GRANT SELECT ON "public"."workspaces" TO ${quoted};`)
    await pool.query(second.grant)
    assert.equal((await flush(db)).updated, 2)
  })

  test('another table that a trigger writes', async () => {
    for (const [body, table, what] of [
      ['INSERT INTO audit VALUES (NEW.id)', 'audit', 'INSERT'],
      ['DELETE FROM permission', 'permission', 'SELECT, DELETE'],
      ['UPDATE audit SET workspace_id = NEW.id WHERE false', 'audit', 'UPDATE'],
    ] as const) {
      await createTrigger(body)
      const error = await refusal()
      assert.equal(error.table, `public.${table}`)
      assert.match(error.grant, new RegExp(`^GRANT ${what}.* ON "public"."${table}" TO `))
    }
  })

  test('what grant gives, with the command', async () => {
    const command = `workspace-usage grant --worker ${role.name}`
    for (const [revoke, table] of [
      ['DELETE ON pending_usage', 'public.pending_usage'],
      ['UPDATE (last_used_at) ON workspaces', 'public.workspaces'],
      ['SELECT (id) ON workspaces', 'public.workspaces'],
      ['INSERT ON workspace_usage', 'public.workspace_usage'],
    ] as const) {
      await grantPrivileges(pool, { workers })
      await pool.query(`REVOKE ${revoke} FROM ${quoted}`)
      const { role: name, table: named, columns, grant } = await refusal()
      assert.deepEqual([name, named, columns, grant], [role.name, table, [], command], revoke)
    }
  })

  test('of anything else, the role and the command', async () => {
    const reader = 'reader' satisfies Duty
    for (const statement of ['CREATE TABLE pgboss.mine ()', 'CREATE SCHEMA mine']) {
      const error = await explained(db.query(statement), reader)
      assert.deepEqual(
        [error.role, error.table, error.grant],
        [role.name, null, `workspace-usage grant --reader ${role.name}`],
      )
    }
  })

  test('by the worker, in its log and at its start', async () => {
    await createTrigger(`UPDATE workspaces SET name = 'x'`)
    const options = { database: role.connectionString(database), flushIntervalSeconds: 1 }
    const log = collectLog()
    {
      await using _worker = await startFlushWorker({ ...options, logger: log.logger })
      await until('a flush has failed', () => log.find('flush failed').length > 0)
    }
    const [{ level, fields }] = log.find('flush failed') as [(typeof log.lines)[number]]
    assert.equal(level, 'warn')
    assert.ok(fields.err instanceof InsufficientPrivilegeError)
    assert.deepEqual([fields.err.role, fields.err.columns], [role.name, ['name']])
    assert.equal(await pendingCount(pool), 2)

    await revokePrivileges(pool, { workers })
    await assert.rejects(
      startFlushWorker({ ...options, logger: log.logger }),
      (error: InsufficientPrivilegeError) =>
        error instanceof InsufficientPrivilegeError &&
        error.grant === `workspace-usage grant --worker ${role.name}`,
    )
  })
})

test('any other error is left as it is', async () => {
  const division = await db.query('SELECT 1 / 0').catch(error => error)
  for (const error of [division, new Error('permission denied'), 'permission denied', undefined]) {
    assert.equal(await explainPrivilegeError(db, error, 'worker'), error)
  }
})

test('so is one that can no longer be looked into', async () => {
  const refused = await db.query('SELECT FROM audit').catch(error => error)
  const ended = new pg.Pool({ connectionString: role.connectionString(database) })
  await ended.end()
  assert.equal(await explainPrivilegeError(ended, refused, 'worker'), refused)
})

async function createTrigger(body: string): Promise<void> {
  await pool.query(`
    CREATE OR REPLACE FUNCTION host() RETURNS trigger LANGUAGE plpgsql
      AS $$ BEGIN ${body}; RETURN NULL; END $$;
    DROP TRIGGER IF EXISTS host ON workspaces;
    CREATE TRIGGER host AFTER UPDATE OF last_used_at ON workspaces FOR EACH ROW EXECUTE FUNCTION host()`)
}

async function refusal(): Promise<InsufficientPrivilegeError> {
  return await explained(flush(db), 'worker')
}

async function explained(refused: Promise<unknown>, duty: Duty): Promise<InsufficientPrivilegeError> {
  const error = await refused.then(
    () => assert.fail('was not refused'),
    error => explainPrivilegeError(db, error, duty),
  )
  assert.ok(error instanceof InsufficientPrivilegeError, String(error))
  return error
}
