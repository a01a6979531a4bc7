import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { explainUsage } from '../../src/activity/explain.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { inSchema } from '../../src/database/in-schema.ts'
import { createPool } from '../../src/database/pool.ts'
import { diagnose } from '../../src/doctor/diagnose.ts'
import { openHttpPort } from '../../src/http/http-port.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { queuesOfSchema } from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { atEnd } from '../support/at-end.ts'
import { runCommand, startCommand } from '../support/command-line.ts'
import type { TestDatabase } from '../support/database.ts'
import { createDatabaseWithSchemas, OWN_SCHEMA, ownClient, setPathOf } from '../support/hostile-path.ts'
import { collectLog } from '../support/log-lines.ts'
import { PGBOUNCER_MISSING, startPooler } from '../support/pgbouncer.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createLoginRole, type LoginRole } from '../support/roles.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

const server = await testServer()

/** A role with all duties in our schema, granted by the command line, and a path of its own that leads elsewhere. */
async function roleWithPath(database: TestDatabase, role: LoginRole, path: string): Promise<string> {
  await setPathOf(database, role.name, path)
  const duties = ['marker', 'worker', 'reader', 'reaper'].flatMap(duty => [`--${duty}`, role.name])
  const env = { DATABASE_URL: database.connectionString, WORKSPACE_USAGE_SCHEMA: OWN_SCHEMA }
  const granted = await runCommand(['grant', ...duties], { env })
  assert.deepEqual([granted.code, granted.stderr], [0, ''])
  return role.connectionString(database)
}

for (const path of ["''", 'decoys', 'decoys, public']) {
  test(`every command works with --schema for a role with its duties whose search_path is ${path}`, async () => {
    const role = await createLoginRole(server, 'schema')
    const database = await createDatabaseWithSchemas()
    const env = { DATABASE_URL: await roleWithPath(database, role, path), WORKSPACE_USAGE_SCHEMA: OWN_SCHEMA }
    const own = await ownClient(database)
    const [id] = await createWorkspaces(own, 1)
    const json = async (...args: string[]) => {
      const { code, stdout, stderr } = await runCommand([...args, '--json'], { env })
      assert.deepEqual([code, stderr], [0, ''], `${args.join(' ')}: ${stderr}${stdout}`)
      return JSON.parse(stdout)
    }
    assert.deepEqual(await json('mark', id!, '--source', 'ssh'), { marked: 1, stored: 1, invalid: 0 })
    assert.equal((await json('explain', id!)).sources[0].source, 'ssh')
    assert.deepEqual(await json('period'), { periodSeconds: 30, untilLimitSeconds: 86_400 })
    await own.query('TRUNCATE pending_usage')
    await storeClosedMarks(own, [id!], { source: 'ssh' })
    assert.equal((await json('flush')).flushed, 1)
    assert.notEqual((await lastUsedAt(own, [id!]))[0], null)
    assert.equal((await json('status')).pending.closed, 0)
    await storeClosedMarks(own, [id!], { source: 'ssh', agoMs: 60_000 })
    await json('flush')
    assert.equal((await json('sources')).length > 0, true)
    await own.query(`UPDATE workspaces SET last_used_at = now() - interval '10 days'`)
    assert.match((await runCommand(['idle', '--for', '1d'], { env })).stdout, new RegExp(id!))
    const reaped = await runCommand(['reap', '--for', '1d'], { env })
    assert.match(reaped.stdout, new RegExp(id!), reaped.stderr)
    const doctor = await runCommand(['doctor', '--json'], { env })
    const codes = JSON.parse(doctor.stdout).findings.map(({ code }: { code: string }) => code)
    for (const code of ['search-path', 'search-path-differs', 'shadowed', 'schemas-mixed', 'not-migrated']) {
      assert.ok(!codes.includes(code), doctor.stdout)
    }
    const [revoke, owner] = [
      ['revoke', '--reader', role.name],
      { ...env, DATABASE_URL: database.connectionString },
    ]
    assert.equal((await runCommand(revoke, { env: owner })).code, 0)
    const refused = await runCommand(['explain', id!], { env })
    assert.equal(refused.code, 1)
    assert.match(
      refused.stderr,
      /workspace-usage grant --reader .* --schema 'Our "usage" it'\\''s\\ \$& 利用'/,
    )
    assert.equal((await runCommand(['period', '45'], { env: owner })).code, 0)
    assert.match((await runCommand(['migrate'], { env: owner })).stdout, /the schema is up to date/)
  })
}

test('the worker command flushes the schema that is named, and its port tells of it', async () => {
  const role = await createLoginRole(server, 'schema')
  const database = await createDatabaseWithSchemas()
  const env = {
    DATABASE_URL: await roleWithPath(database, role, 'decoys, public'),
    WORKSPACE_USAGE_SCHEMA: OWN_SCHEMA,
  }
  const own = await ownClient(database)
  const ids = await createWorkspaces(own, 3)
  await storeClosedMarks(own, ids)
  await storeClosedMarks(database.pool, ids)
  const worker = startCommand(['worker', '--flush-interval', '1', '--port', '0'], { env })
  await until('the marks are flushed', async () => (await pendingCount(own)) === 0)
  assert.equal(await pendingCount(database.pool), 3)
  const [, url] = /"url":"([^"]+)"/.exec(worker.printed)!
  const { status } = await fetch(new URL('/readyz', url))
  assert.equal(status, 200)
  worker.emit('SIGTERM', 'SIGTERM')
  assert.equal((await worker.ended).code, 0)
})

test('a worker of a schema that lacks the tables says which, and does not flush what search_path leads to', async () => {
  const { connectionString, pool } = await createDatabaseWithSchemas()
  await pool.query('CREATE SCHEMA bare')
  const { logger } = collectLog()
  const starting = (schema: string) => startFlushWorker({ database: connectionString, schema, logger })
  await assert.rejects(starting('bare'), {
    name: 'NotMigratedError',
    message: /"bare\.pending_usage" does not exist/,
  })
  await assert.rejects(starting('pg_x'), { name: 'InvalidOptionError', message: /^schema is "pg_x"/ })
  // An older release has migrated this one.
  await pool.query(`ALTER TABLE ${pg.escapeIdentifier(OWN_SCHEMA)}.source_usage RENAME TO former`)
  await assert.rejects(starting(OWN_SCHEMA), {
    name: 'NotMigratedError',
    message: /source_usage" does not exist/,
  })
})

test('the doctor names a schema without the tables, and where they are', async () => {
  const { pool } = await createDatabaseWithSchemas()
  await pool.query('CREATE SCHEMA bare')
  const { findings } = await diagnose(inSchema(pool, 'bare'))
  const finding = findings.find(({ code }) => code === 'search-path')
  assert.match(finding?.message ?? '', /^The schema "bare" does not hold it.*It is in the schema .*"public"/)
})

test('marks, a worker and reads find the schema through PgBouncer in transaction mode, which drops search_path', async t => {
  const role = await createLoginRole(server, 'pooled')
  await throughPooler(await createDatabaseWithSchemas(), role, t)
})

test('they find it through PgBouncer on PostgreSQL 15 as well', async t => {
  await onPostgres15(t, async ({ connectionString }) => {
    const role = await createLoginRole(connectionString, 'pooled')
    await throughPooler(await createDatabaseWithSchemas(connectionString), role, t)
  })
})

async function throughPooler(
  database: TestDatabase,
  role: LoginRole,
  t: { skip(reason: string): void },
): Promise<void> {
  const direct = role.connectionString(database)
  const pooler = await startPooler(
    database.connectionString,
    ['pool_mode = transaction', 'ignore_startup_parameters = options', 'server_reset_query_always = 1'],
    [direct],
  )
  if (pooler === null) return t.skip(PGBOUNCER_MISSING)
  const own = await ownClient(database)
  const ids = await createWorkspaces(own, 20)
  await own.query(`CREATE OR REPLACE FUNCTION ${pg.escapeIdentifier(OWN_SCHEMA)}.usage_period() RETURNS interval
    LANGUAGE sql STABLE PARALLEL SAFE RETURN interval '0.2 seconds'`)
  await roleWithPath(database, role, 'decoys')
  assert.deepEqual(
    (await migrate({ connectionString: pooler.connectionString, schema: OWN_SCHEMA })).applied,
    [],
  )
  const url = pooler.through(direct)
  const log = collectLog()
  await using port = await openHttpPort({
    ...{ port: 0, host: '127.0.0.1', database: url, schema: OWN_SCHEMA, logger: log.logger },
    ...{ health: {}, dashboard: null },
  })
  await using worker = await startFlushWorker({
    ...{ database: url, schema: OWN_SCHEMA, logger: log.logger, flushIntervalSeconds: 1 },
  })
  port.answersFor(worker)
  const pool = createPool(url, { applicationName: 'ide', max: 3 })
  atEnd(() => pool.end())
  const reads = inSchema(pool, OWN_SCHEMA)
  const started = new Date()
  const tracker = new UsageTracker(reads, { logger: log.logger })
  for (const id of ids) tracker.mark(id)
  await tracker.close()
  await until('all marks are flushed', async () =>
    (await lastUsedAt(own, ids)).every(at => at !== null && at >= started),
  )
  const found = await Promise.all(ids.map(id => explainUsage(reads, id)))
  assert.ok(found.every(explained => explained?.sources[0]?.source === 'ide'))
  for await (const _ of idleWorkspaces(reads, { idleForSeconds: 86_400 })) assert.fail('none is idle')
  assert.equal((await fetch(new URL('/readyz', port.url))).status, 200)
  const { rows } = await database.pool.query('SELECT name FROM pgboss.schedule ORDER BY 1')
  assert.ok(rows.some(({ name }) => name === queuesOfSchema(OWN_SCHEMA).flush))
  assert.deepEqual(
    log.lines.filter(({ level }) => level === 'warn' || level === 'error'),
    [],
  )
}
