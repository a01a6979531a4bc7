import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { beforeEach, test } from 'node:test'
import pg from 'pg'
import { grantPrivileges, revokePrivileges } from '../../src/access/grant.ts'
import { explainPrivilegeError } from '../../src/access/refusal.ts'
import { type Duty, InsufficientPrivilegeError } from '../../src/errors.ts'
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
  -- The text of every such error contains this name.
  CREATE TABLE permission (id uuid)`)
// One session for all tests, because PostgreSQL reports a refusal before it releases the locks of that transaction.
const db = await database.connect({ connectionString: role.connectionString(database) })
const quoted = pg.escapeIdentifier(role.name)
const command = `workspace-usage grant --worker '${role.name}'`

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE; DROP TRIGGER IF EXISTS host ON workspaces')
  await pool.query(`REVOKE ALL ON workspaces FROM ${quoted}`)
  await grantPrivileges(pool, { workers })
  await storeClosedMarks(pool, await createWorkspaces(pool, 2))
})

test('the error of a worker that lacks a privilege of its duty names the grant command', async () => {
  for (const revoke of [
    'DELETE ON pending_usage',
    'UPDATE (last_used_at) ON workspaces',
    'SELECT (id) ON workspaces',
    'INSERT ON workspace_usage_day',
  ]) {
    await grantPrivileges(pool, { workers })
    await pool.query(`REVOKE ${revoke} FROM ${quoted}`)
    const error = await refusal()
    assert.deepEqual([error.role, error.duty, error.where], [role.name, 'worker', null], revoke)
    assert.equal(error.command, command)
    assert.equal((error.cause as { code: string }).code, '42501')
    const { message } = error.cause as Error
    assert.equal(
      error.message,
      `role ${JSON.stringify(role.name)} lacks a privilege: ${message}. Run: ${command}`,
    )
  }
})

test('the grant command in an error can be pasted into a shell, whatever the name of the role', () => {
  const error = new InsufficientPrivilegeError("o'brien", 'reader', 'permission denied', null)
  const words = execFileSync('sh', ['-c', error.command.replace('workspace-usage', "printf '%s\n'")])
  assert.equal(words.toString(), "grant\n--reader\no'brien\n")
  const plain = new InsufficientPrivilegeError('flusher-1', 'worker', 'permission denied', null)
  assert.equal(plain.command, 'workspace-usage grant --worker flusher-1')
})

test('the error of a flush that a trigger of the host made fail names the place in the trigger', async () => {
  for (const body of [
    `UPDATE workspaces SET "updatedAt" = now(), name = 'x' WHERE id = NEW.id`,
    'INSERT INTO audit VALUES (NEW.id)',
    'DELETE FROM permission',
    'UPDATE audit SET workspace_id = NEW.id WHERE false',
  ]) {
    await createTrigger(body)
    const error = await refusal()
    const { message, where } = error.cause as Error & { where: string }
    assert.equal(error.where, where)
    assert.ok(where.includes(body) && where.includes('host()'), where)
    assert.equal(
      error.message,
      `role ${JSON.stringify(role.name)} lacks a privilege: ${message}. ` +
        `It was refused in: ${where.replaceAll('\n', ' ')}. Run: ${command}. If that is a trigger or function of ` +
        'yours, also grant the role what it does, or make the function SECURITY DEFINER.',
    )
  }
  await pool.query('ALTER FUNCTION host() SECURITY DEFINER')
  assert.equal((await flush(db)).updated, 2)
})

test('the error of any other refused statement names the role and the grant command of its duty', async () => {
  const reader = 'reader' satisfies Duty
  for (const statement of ['CREATE TABLE pgboss.mine ()', 'CREATE SCHEMA mine']) {
    const error = await explained(db.query(statement), reader)
    assert.deepEqual([error.role, error.duty], [role.name, reader])
    assert.match(error.command, /^workspace-usage grant --reader /)
  }
})

test('a worker explains a missing privilege in its log and when it starts', async () => {
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
  assert.equal(fields.err.role, role.name)
  assert.match(fields.err.where!, /host\(\)/)
  assert.equal(await pendingCount(pool), 2)

  await revokePrivileges(pool, { workers })
  await assert.rejects(
    startFlushWorker({ ...options, logger: log.logger }),
    (error: InsufficientPrivilegeError) =>
      error instanceof InsufficientPrivilegeError && error.command === command,
  )
})

test('explainPrivilegeError returns an error that is no refusal as it is', async () => {
  const division = await db.query('SELECT 1 / 0').catch(error => error)
  for (const error of [division, new Error('permission denied'), 'permission denied', undefined]) {
    assert.equal(await explainPrivilegeError(db, error, 'worker'), error)
  }
})

test('explainPrivilegeError returns a refusal as it is if it can no longer ask for the role', async () => {
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
