/*
 * What docker-compose.yml does, without containers: the roles by psql, then migrate, grant and a worker, each as the
 * role of its service. Roles belong to a whole server and have fixed names here, so this file has servers of its own.
 */

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import type pg from 'pg'
import { atEnd } from '../support/at-end.ts'
import { ROOT } from '../support/checkout.ts'
import { runCommand } from '../support/command-line.ts'
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts'
import { startInstalledPostgres15 } from '../support/installed-postgres-15.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING } from '../support/postgres-15.ts'
import { startProgram } from '../support/process.ts'
import { startServer } from '../support/server.ts'
import { SERVICES } from './compose-file.ts'

const PASSWORDS = { OWNER_PASSWORD: "own'er $x", WORKER_PASSWORD: 'wörk"er\\', READER_PASSWORD: 'reader' }
const WORKSPACE = 'ad0b51e0-4a1f-4f5c-9d4e-111111111111'

testOnOwnServers(
  'the roles of compose suffice for migrate, grant and a worker that flushes and shows its dashboard',
  async database => {
    await createRoles(database)
    await createRoles(database)
    await migrateAndGrant(database)
    await mark(database)
    const command = SERVICES.worker!.command!.map(word => (word === '9464' ? '0' : word))
    const worker = startProgram('src/cli/main.ts', [...command, '--flush-interval', '1'], {
      env: {
        ...serviceEnvironment(database, 'worker'),
        PGBOSS_DASHBOARD_AUTH_USERNAME: 'admin',
        PGBOSS_DASHBOARD_AUTH_PASSWORD: 'dashboard',
      },
    })
    await until('the mark is flushed', async () => (await lastUse(database)) !== null, {
      accept: flushed => flushed,
      timeoutMs: 20_000,
    })
    await worker.line(/"worker started"/)
    const port = /http:\/\/[^"]*:(\d+)/.exec(worker.stdout)![1]
    const status = async (page: string, headers = {}) =>
      (await fetch(`http://127.0.0.1:${port}${page}`, { headers })).status
    const authorization = `Basic ${btoa('admin:dashboard')}`
    assert.equal(await status('/healthz'), 200)
    assert.equal(await status('/readyz'), 200)
    assert.equal(await status('/queues'), 401)
    assert.equal(await status('/queues', { authorization }), 200)
    worker.kill()
    assert.equal((await worker.untilExit()).code, 0)
  },
)

testOnOwnServers(
  'the role of the worker creates nothing, and reads nothing beyond its duty',
  async database => {
    await createRoles(database)
    await migrateAndGrant(database)
    await database.pool.query('CREATE TABLE secret (); ALTER TABLE workspaces ADD name text')
    const client = await connect(database, 'usage_worker', PASSWORDS.WORKER_PASSWORD)
    for (const refused of [
      'CREATE TABLE public.mine ()',
      'CREATE TABLE pgboss.mine ()',
      'CREATE SCHEMA mine',
      'CREATE TEMPORARY TABLE mine ()',
      'CREATE ROLE mine',
      'CREATE DATABASE mine',
      'SELECT FROM secret',
      'SELECT name FROM workspaces',
      'INSERT INTO workspaces DEFAULT VALUES',
      'INSERT INTO pending_usage (workspace_id) VALUES (gen_random_uuid())',
      'TRUNCATE pending_usage',
      'SET ROLE usage_owner',
      'SELECT rolpassword FROM pg_authid',
      "SELECT pg_read_file('postgresql.conf')",
    ]) {
      await assert.rejects(client.query(refused), { code: '42501' }, refused)
    }
  },
)

testOnOwnServers(
  'no role of compose is more than it needs, and one without a password has none',
  async database => {
    await createRoles(database)
    const { rows } = await database.pool.query(`
    SELECT rolname AS name, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS more,
      rolpassword LIKE 'SCRAM-SHA-256$%' AS password
    FROM pg_authid WHERE rolname LIKE 'usage%' ORDER BY 1`)
    assert.deepEqual(rows, [
      { name: 'usage_marker', more: false, password: null },
      { name: 'usage_owner', more: false, password: true },
      { name: 'usage_reader', more: false, password: true },
      { name: 'usage_worker', more: false, password: true },
    ])
  },
)

testOnOwnServers('the owner takes over what the superuser has migrated, and loses no use', async database => {
  assert.equal((await usage(['migrate'], { DATABASE_URL: database.connectionString })).code, 0)
  await database.pool.query('INSERT INTO workspaces (id, last_used_at) VALUES ($1, now())', [WORKSPACE])
  await createRoles(database)
  await migrateAndGrant(database)
  assert.notEqual(await lastUse(database), null)
  const { rows } = await database.pool.query(`
    SELECT relname FROM pg_class
    WHERE relnamespace IN ('public'::regnamespace, 'pgboss'::regnamespace) AND relowner <> 'usage_owner'::regrole
    UNION ALL
    SELECT proname FROM pg_proc
    WHERE pronamespace IN ('public'::regnamespace, 'pgboss'::regnamespace) AND proowner <> 'usage_owner'::regrole
    UNION ALL
    SELECT typname FROM pg_type
    WHERE typnamespace IN ('public'::regnamespace, 'pgboss'::regnamespace) AND typowner <> 'usage_owner'::regrole`)
  assert.deepEqual(rows, [])
  const { stdout, code } = await usage(['migrate'], serviceEnvironment(database, 'migrate'))
  assert.equal(code, 0)
  assert.match(stdout, /the schema is up to date/)
})

const psql = programVersion('psql')
let server18: Promise<string> | undefined
let server15: Promise<string | null> | undefined

/** Defines a test twice, each time with an empty database of a server that has none of the roles' privileges. */
function testOnOwnServers(name: string, body: (database: TestDatabase) => Promise<void>): void {
  const onServer = async (t: TestContext, on: string | null) => {
    if (psql === null) return t.skip('psql is not installed')
    if (on === null) return t.skip(POSTGRES_15_MISSING)
    await using database = await createEmptyDatabase({ on })
    await body(database)
  }
  test(name, async t => {
    server18 ??= startServer().then(({ connectionString }) => connectionString)
    await onServer(t, await server18)
  })
  test(`on PostgreSQL 15, ${name}`, async t => {
    server15 ??= startInstalledPostgres15().then(own => {
      if (own === null) return null
      atEnd(() => own.stop())
      return own.connectionString
    })
    await onServer(t, await server15)
  })
}

/** Runs the service `roles`: the same arguments, but this server and file. */
async function createRoles({ connectionString }: TestDatabase): Promise<void> {
  const options = SERVICES.roles!.command!.filter(word => !/^--(host|username|dbname|file)=/.test(word))
  const file = path.join(ROOT, 'deploy/compose/roles.sql')
  const { stdout, stderr } = await promisify(execFile)(
    'psql',
    [...options, `--dbname=${connectionString}`, `--file=${file}`],
    { env: { PATH: process.env.PATH, PGCLIENTENCODING: 'UTF8', ...PASSWORDS } },
  )
  assert.deepEqual({ stdout, stderr }, { stdout: '', stderr: '' })
}

async function migrateAndGrant(database: TestDatabase): Promise<void> {
  for (const service of ['migrate', 'grant']) {
    const { code, stderr } = await usage(SERVICES[service]!.command!, serviceEnvironment(database, service))
    assert.equal(code, 0, stderr)
  }
}

const usage = (args: string[], env: Record<string, string>) => runCommand(args, { env })

/** The environment of a service, on this database. In this process PGPASSWORD is not read from it, so the URL has it. */
function serviceEnvironment({ connectionString }: TestDatabase, service: string): Record<string, string> {
  const { DATABASE_URL, PGPASSWORD } = SERVICES[service]!.environment!
  const variable = /^\$\{(\w+):/.exec(PGPASSWORD!)?.[1] as keyof typeof PASSWORDS
  const url = new URL(connectionString)
  url.username = new URL(DATABASE_URL!).username
  if (service !== 'worker') {
    url.password = encodeURIComponent(PASSWORDS[variable])
    return { DATABASE_URL: url.href }
  }
  url.password = ''
  return { DATABASE_URL: url.href, PGPASSWORD: PASSWORDS[variable] }
}

async function connect(database: TestDatabase, user: string, password: string): Promise<pg.Client> {
  const { hostname, port, pathname } = new URL(database.connectionString)
  return await database.connect({
    connectionString: undefined,
    host: hostname,
    port: Number(port),
    database: pathname.slice(1),
    user,
    password,
  })
}

/** Marks a workspace that exists, in a period that is over. */
async function mark({ pool }: TestDatabase): Promise<void> {
  await pool.query('INSERT INTO workspaces (id) VALUES ($1)', [WORKSPACE])
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source) VALUES (now() - interval '1 minute', $1, 'ssh')`,
    [WORKSPACE],
  )
}

async function lastUse({ pool }: TestDatabase): Promise<Date | null> {
  const { rows } = await pool.query('SELECT last_used_at FROM workspaces WHERE id = $1', [WORKSPACE])
  return rows[0].last_used_at
}

function programVersion(program: string): string | null {
  try {
    return execFileSync(program, ['--version'], { encoding: 'utf8' })
  } catch {
    return null
  }
}
