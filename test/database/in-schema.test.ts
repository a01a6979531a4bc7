import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Kysely, PostgresDialect } from 'kysely'
import type pg from 'pg'
import { explainUsage } from '../../src/activity/explain.ts'
import { usageHealth } from '../../src/activity/health.ts'
import { usageHistory } from '../../src/activity/history.ts'
import { type PendingStatus, pendingStatus } from '../../src/activity/status.ts'
import type { Connection, Queryable } from '../../src/database/connection.ts'
import { execute } from '../../src/database/connection.ts'
import { destroyIdle, executeWithin, isPool } from '../../src/database/deadline.ts'
import { inSchema } from '../../src/database/in-schema.ts'
import { createPool } from '../../src/database/pool.ts'
import { transactionOn } from '../../src/database/transaction.ts'
import { NoAnswerError } from '../../src/errors.ts'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { importUsage } from '../../src/import/import-usage.ts'
import { insertPendingUsage, markUsage } from '../../src/mark/mark.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { usagePeriod } from '../../src/schema/period.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { heardPool } from '../support/heard-pool.ts'
import { createDatabaseWithSchemas, OWN_SCHEMA, ownClient, PATHS } from '../support/hostile-path.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

const database = await createDatabaseWithSchemas()
const own = await ownClient(database)

/** A pool whose sessions have a path, and the statements that were sent on it. */
function poolWithPath(path: string, connectionString = database.connectionString) {
  const pool = heardPool({
    connectionString,
    max: 3,
    options: `-c search_path=${path.replaceAll(' ', '\\ ')}`,
  })
  const sent: string[] = []
  pool.on('connect', client => {
    const { query } = client
    client.query = function (this: pg.Client, ...args: [string]) {
      if (typeof args[0] === 'string') sent.push(args[0])
      return query.apply(this, args as never)
    } as typeof client.query
  })
  return Object.assign(pool, { sent, [Symbol.asyncDispose]: () => pool.end() })
}

for (const path of PATHS) {
  test(`every function finds the tables of the schema on a pool, a client and Kysely if search_path is ${path}`, async () => {
    await using pool = poolWithPath(path)
    const client = await pool.connect()
    const kysely = new Kysely<never>({ dialect: new PostgresDialect({ pool }) })
    try {
      for (const connection of [pool, client, kysely] as Connection[]) {
        await usesTheSchema(inSchema(connection, OWN_SCHEMA))
        const { rows } = await execute<{ path: string }>(connection, {
          sql: `SELECT current_setting('search_path') AS path`,
          parameters: [],
        })
        assert.ok(!rows[0]!.path.includes(OWN_SCHEMA), 'the path must not stay')
      }
    } finally {
      client.release()
    }
  })
}

const marksOf = ({ open, closed }: PendingStatus) => open + closed

async function usesTheSchema(connection: Connection): Promise<void> {
  const [id] = await createWorkspaces(own, 1)
  assert.deepEqual(await markUsage(connection, id!, { source: 'ssh' }), { marked: 1, stored: 1 })
  assert.equal(marksOf(await pendingStatus(connection)), 1)
  assert.equal((await explainUsage(connection, id!))?.sources[0]?.source, 'ssh')
  assert.equal(await usagePeriod(connection), 30)
  await own.query('TRUNCATE pending_usage')
  const end = await storeClosedMarks(own, [id!])
  assert.equal((await flush(connection)).flushed, 1)
  assert.deepEqual(await lastUsedAt(own, [id!]), [end])
  await storeClosedMarks(own, [id!])
  assert.equal((await drain(connection)).flushes, 1)
  assert.equal(await pendingCount(own), 0)
  const past = { workspaceId: id!, usedAt: new Date(end.getTime() - 3_600_000) }
  assert.equal((await importUsage(connection, [past])).imported, 1)
  assert.equal((await usageHistory(connection, id!)).sources.length, 2)
  assert.notEqual((await usageHealth(connection)).pending, null)
}

test('a mark on a pool in a schema is one statement, without a transaction', async () => {
  await using pool = poolWithPath('decoys')
  const [one, other] = await createWorkspaces(own, 2)
  const inOurs = inSchema(pool, OWN_SCHEMA)
  await markUsage(inOurs, one!)
  assert.equal(pool.sent.length, 1)
  const tracker = new UsageTracker(inOurs, { source: 'ide' })
  tracker.mark(other!)
  await tracker.close()
  assert.equal(pool.sent.length, 2)
  assert.equal(await pendingCount(own), 2)
  await own.query('TRUNCATE pending_usage')
})

test('a tracker in a schema keeps to the period that its schema has, and its repeats need no statement', async () => {
  await using pool = poolWithPath('decoys')
  const [id] = await createWorkspaces(own, 1)
  const tracker = new UsageTracker(inSchema(pool, OWN_SCHEMA))
  tracker.mark(id!)
  await tracker.drain()
  tracker.mark(id!)
  await tracker.drain()
  assert.ok(tracker.stats().deduplicated <= 1)
  // Two statements only if the period has ended in between.
  assert.equal(pool.sent.length, tracker.stats().stored)
  await tracker.close()
  await own.query('TRUNCATE pending_usage')
})

test('the statement of a mark names the schema for a caller that embeds it', () => {
  const { sql } = insertPendingUsage([], 'ssh', { schema: 'a"b' })
  assert.match(sql, /^INSERT INTO "a""b"\.pending_usage \(workspace_id, source\)/)
  assert.throws(() => insertPendingUsage([], undefined, { schema: 'pg_mine' }), {
    name: 'InvalidOptionError',
    message: /^schema is "pg_mine"; allowed: the name of a schema/,
  })
  assert.throws(() => insertPendingUsage([], undefined, { shema: 'x' } as never), {
    name: 'UnknownOptionError',
  })
})

test('inside a transaction of the caller a statement is part of it, and the path is put back', async () => {
  const client = await database.connect()
  const session = inSchema(client, OWN_SCHEMA)
  const pathOf = async () => (await client.query('SHOW search_path')).rows[0].search_path
  const [id] = await createWorkspaces(own, 1)
  await client.query('BEGIN; SET LOCAL search_path = decoys, public')
  assert.equal((await explainUsage(session, id!))?.workspaceId, id)
  assert.equal(await pathOf(), 'decoys, public')
  await storeClosedMarks(own, [id!])
  assert.equal((await flush(session)).flushed, 1)
  assert.equal(await pathOf(), 'decoys, public')
  await client.query('ROLLBACK')
  assert.deepEqual(await lastUsedAt(own, [id!]), [null])
  await own.query('TRUNCATE pending_usage')
})

test('a statement that fails in a transaction of the caller aborts it, as it does without a schema', async () => {
  const client = await database.connect()
  const session = inSchema(client, OWN_SCHEMA)
  await client.query('BEGIN; SET LOCAL search_path = decoys')
  await assert.rejects(execute(session, { sql: 'SELECT 1/0', parameters: [] }), { code: '22012' })
  await assert.rejects(client.query('SELECT'), { code: '25P02' })
  await client.query('ROLLBACK')
  await assert.rejects(execute(session, { sql: 'SELECT 1/0', parameters: [] }), { code: '22012' })
  assert.equal(await usagePeriod(session), 30)
})

test('statements that are sent at once on one client take turns', async () => {
  const session = inSchema(await database.connect(), OWN_SCHEMA)
  const failing = () => execute(session, { sql: 'SELECT 1/0', parameters: [] }).catch(error => error.code)
  const answers = await Promise.all([
    usagePeriod(session),
    failing(),
    usagePeriod(session),
    flush(session),
    failing(),
  ])
  assert.deepEqual([answers[0], answers[1], answers[2], answers[4]], [30, '22012', 30, '22012'])
})

test('a Kysely transaction in a schema is part of itself, and sees its own marks', async () => {
  const [id] = await createWorkspaces(own, 1)
  await database.kysely
    .transaction()
    .execute(async transaction => {
      const placed = inSchema(transaction, OWN_SCHEMA)
      await markUsage(placed, id!)
      assert.equal((await explainUsage(placed, id!))?.sources.length, 1)
      assert.equal(marksOf(await pendingStatus(placed)), 1)
      throw new Error('rolled back')
    })
    .catch(error => assert.equal(error.message, 'rolled back'))
  assert.equal(await pendingCount(own), 0)
})

test('a schema without our tables is named, even if search_path leads to tables of these names', async () => {
  await database.pool.query('CREATE SCHEMA bare')
  const connections: Connection[] = [database.pool, await database.connect(), database.kysely]
  for (const connection of connections) {
    const placed = inSchema(connection, 'bare')
    const missing = {
      name: 'NotMigratedError',
      message:
        'this database is not migrated: relation "bare.pending_usage" does not exist. Run `workspace-usage migrate ' +
        '--schema bare` against it first.',
      schema: 'bare',
    }
    await assert.rejects(pendingStatus(placed), missing)
    await assert.rejects(flush(placed), missing)
    await assert.rejects(markUsage(placed, crypto.randomUUID()), missing)
    await assert.rejects(pendingStatus(inSchema(connection, 'no such')), {
      name: 'NotMigratedError',
      // On PostgreSQL 15 it is the schema that does not exist.
      message: /(relation "no such\.pending_usage"|schema "no such") does not exist/,
    })
  }
})

test('a name that no schema can have is refused before anything is sent', () => {
  for (const schema of [
    '',
    'pg_catalog',
    'pg_temp',
    'information_schema',
    'x'.repeat(64),
    'ö'.repeat(32),
    'a\0b',
    1,
  ]) {
    assert.throws(
      () => inSchema(database.pool, schema as string),
      { name: 'InvalidOptionError' },
      String(schema),
    )
  }
  assert.throws(() => inSchema({} as never, 'usage'), {
    name: 'InvalidOptionError',
    message: /^connection is/,
  })
  assert.ok(inSchema(database.pool, 'ö'.repeat(31)))
})

test('a connection in a schema is the same connection, and a second schema takes the place of the first', async () => {
  const placed = inSchema(inSchema(database.pool, 'bare'), OWN_SCHEMA)
  assert.equal(isPool(placed), true)
  assert.equal(placed.totalCount, database.pool.totalCount)
  assert.equal((await placed.query('SHOW search_path')).rows[0].search_path, '"$user", public')
  assert.equal(await usagePeriod(placed), 30)
})

test('the errors of idle connections are heard through the schema, by one listener', async () => {
  await using pool = poolWithPath('public')
  const before = pool.listenerCount('error')
  const log = collectLog()
  const trackers = ['a', 'b'].map(schema => new UsageTracker(inSchema(pool, schema), { logger: log.logger }))
  assert.equal(pool.listenerCount('error'), before + 1)
  await Promise.all(trackers.map(tracker => tracker.close()))
  assert.equal(pool.listenerCount('error'), before)
})

test('a pool in a schema is as bounded as one without: silent connections are destroyed and replaced', async () => {
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const pool = heardPool({ connectionString: proxy.connectionString, max: 3, idleTimeoutMillis: 0 })
  const placed = inSchema(pool, OWN_SCHEMA)
  const one = { sql: 'SELECT 1::text AS one', parameters: [] }
  await Promise.all([1, 2, 3].map(() => executeWithin(placed, one, 5_000)))
  assert.equal(pool.idleCount, 3)
  proxy.silence()
  await assert.rejects(executeWithin(placed, one, 300), NoAnswerError)
  await until('the silent ones are closed', () => proxy.silentAndOpen === 0)
  assert.deepEqual((await executeWithin(placed, one, 5_000)).rows, [{ one: '1' }])
  proxy.silence()
  await assert.rejects(
    transactionOn(placed, 300, async ({ connection }) => await execute(connection, one)),
    NoAnswerError,
  )
  destroyIdle(placed, 300)
  await until('these are closed as well', () => proxy.silentAndOpen === 0)
  proxy.silence()
  assert.deepEqual(
    (await usageHealth(placed)).ok,
    (await usageHealth(inSchema(database.pool, OWN_SCHEMA))).ok,
  )
  await pool.end()
})

test('a tracker in a schema goes on after its connections went silent', async () => {
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const pool = createPool(proxy.connectionString, { applicationName: 'test', max: 2 })
  const log = collectLog()
  const tracker = new UsageTracker(inSchema(pool, OWN_SCHEMA), {
    logger: log.logger,
    statementTimeoutMs: 300,
  })
  const ids = await createWorkspaces(own, 2)
  tracker.mark(ids[0]!)
  await tracker.drain()
  proxy.silence()
  tracker.mark(ids[1]!)
  await tracker.drain()
  assert.equal(await pendingCount(own), 2)
  await tracker.close()
  await pool.end()
  await own.query('TRUNCATE pending_usage')
})

test('a session whose driver takes one statement at a time is enough', async () => {
  const client = await database.connect()
  const oneAtATime: Queryable = {
    query: (text, values) =>
      client.query({ text, values: values ?? [], queryMode: 'extended' } as pg.QueryConfig),
  }
  const [id] = await createWorkspaces(own, 1)
  const placed = inSchema(oneAtATime, OWN_SCHEMA)
  assert.equal(await usagePeriod(placed), 30)
  await markUsage(placed, id!)
  assert.equal((await explainUsage(placed, id!))?.sources.length, 1)
  await own.query('TRUNCATE pending_usage')
  await storeClosedMarks(own, [id!])
  assert.equal((await flush(placed)).flushed, 1)
})

test('a trigger of the host that needs the path of its session runs in a flush as before', async () => {
  const [id] = await createWorkspaces(own, 1)
  await own.query(`
    CREATE TABLE decoys.audit (id uuid);
    CREATE FUNCTION decoys.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NULL; END';
    CREATE TRIGGER note AFTER UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION decoys.note()`)
  try {
    await using pool = poolWithPath('decoys')
    await storeClosedMarks(own, [id!])
    assert.equal((await flush(inSchema(pool, OWN_SCHEMA))).flushed, 1)
    assert.equal((await pool.query('SELECT FROM audit')).rows.length, 1)
  } finally {
    await own.query('DROP TRIGGER note ON workspaces')
  }
})
