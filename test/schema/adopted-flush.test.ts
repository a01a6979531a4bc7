import assert from 'node:assert/strict'
import type { PoolClient } from 'pg'
import { usageHealth } from '../../src/activity/health.ts'
import { flush } from '../../src/flush/flush.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { uninstall } from '../../src/schema/uninstall.ts'
import type { TestDatabase } from '../support/database.ts'
import { giveUpWaitingForLocks } from '../support/locks.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { execution } from '../support/plan.ts'

const TABLE = { table: 'app.boxes', idColumn: 'key', lastUsedColumn: 'usedAt' }
const BOXES = `CREATE SCHEMA app;
  CREATE TABLE app.boxes (key text PRIMARY KEY, "usedAt" timestamptz, deleted_at timestamptz, note text)`

testOnBothVersions(
  'a workspace that is deleted by a mark in its row is unknown, and is flushed again once that is taken back',
  async ({ connectionString, pool }) => {
    await pool.query(`${BOXES}; INSERT INTO app.boxes VALUES ('a'), ('b')`)
    await migrate({ connectionString, ...TABLE, where: 'deleted_at IS NULL' })
    await mark(pool, 'a', 'b')
    await pool.query(`UPDATE app.boxes SET deleted_at = now() WHERE key = 'a'`)
    assert.deepEqual(await counts(pool), { flushed: 1, updated: 1, unknown: 0, held: 0, awaited: 1 })
    await pool.query(`UPDATE set_aside_usage SET period_end = period_end - interval '1 day'`)
    assert.equal((await flush(pool)).unknown, 1)
    assert.deepEqual(await usedOf(pool), ['b'])
    assert.deepEqual((await pool.query('SELECT workspace_id FROM workspace_activity')).rows, [
      { workspace_id: 'b' },
    ])

    await pool.query('UPDATE app.boxes SET deleted_at = NULL')
    await mark(pool, 'a')
    assert.deepEqual(await counts(pool), { flushed: 1, updated: 1, unknown: 0, held: 0, awaited: 0 })
    assert.deepEqual(await usedOf(pool), ['a', 'b'])
    // The row of the workspace goes, and what is known of its sources goes with it.
    await pool.query(`DELETE FROM app.boxes WHERE key = 'a'`)
    assert.deepEqual((await pool.query('SELECT workspace_id FROM workspace_usage')).rows, [
      { workspace_id: 'b' },
    ])
  },
)

testOnBothVersions(
  'a row of the table below that a transaction holds is counted as held, its holder is named, and nothing waits',
  async database => {
    const { connectionString, pool } = database
    await pool.query(`${BOXES}; INSERT INTO app.boxes VALUES ('a'), ('b'), ('c')`)
    await migrate({ connectionString, ...TABLE, where: 'deleted_at IS NULL' })
    await giveUpWaitingForLocks(database)
    const holders = await Promise.all([pool.connect(), pool.connect()])
    await holders[0].query(`BEGIN; UPDATE app.boxes SET note = 'mine' WHERE key = 'a'`)
    await holders[1].query(
      `SET application_name = 'the locker'; BEGIN; SELECT FROM app.boxes WHERE key = 'b' FOR UPDATE`,
    )
    await mark(pool, 'a', 'b', 'c')
    assert.deepEqual(await counts(pool), { flushed: 1, updated: 1, unknown: 0, held: 2, awaited: 0 })
    await pool.query(`UPDATE set_aside_usage SET period_end = period_end - interval '1 day'`)
    const { problems } = await usageHealth(pool)
    assert.match(problems.map(({ message }) => message).join(), /the locker/)

    await end(holders[0], 'COMMIT')
    await end(holders[1], 'ROLLBACK')
    assert.deepEqual(await counts(pool), { flushed: 2, updated: 2, unknown: 0, held: 0, awaited: 0 })
    const { rows } = await pool.query(`SELECT note FROM app.boxes WHERE key = 'a' AND "usedAt" IS NOT NULL`)
    assert.deepEqual(rows, [{ note: 'mine' }])
  },
)

testOnBothVersions(
  'updates of the application beside flushes lose nothing on either side',
  async database => {
    const { connectionString, pool } = database
    await pool.query(`${BOXES}; INSERT INTO app.boxes SELECT 'box ' || n FROM generate_series(1, 50) n`)
    await migrate({ connectionString, ...TABLE, where: 'deleted_at IS NULL' })
    await giveUpWaitingForLocks(database)
    const ids = Array.from({ length: 50 }, (_, n) => `box ${n + 1}`)
    let updates = 0
    let open = true
    const application = async () => {
      for (; open; updates++) {
        await pool.query(`UPDATE app.boxes SET note = coalesce(note, '') || 'x' WHERE key = $1`, [
          ids[updates % 50],
        ])
      }
    }
    const working = Promise.all([application(), application()])
    for (let round = 0; round < 10; round++) {
      await mark(pool, ...ids)
      await flush(pool)
    }
    open = false
    await working
    while ((await flush(pool)).flushed > 0);
    assert.equal((await usedOf(pool)).length, 50)
    assert.deepEqual((await pool.query('SELECT FROM set_aside_usage')).rows, [])
    const { rows } = await pool.query('SELECT sum(length(note))::int AS notes FROM app.boxes')
    assert.equal(rows[0].notes, updates)
  },
)

testOnBothVersions(
  'a partitioned table keeps its marks while rows and partitions move',
  async ({ connectionString, pool }) => {
    await pool.query(`CREATE SCHEMA app;
    CREATE TABLE app.boxes (key integer PRIMARY KEY, "usedAt" timestamptz) PARTITION BY RANGE (key);
    CREATE TABLE app.low PARTITION OF app.boxes FOR VALUES FROM (0) TO (10);
    CREATE TABLE app.high PARTITION OF app.boxes FOR VALUES FROM (10) TO (20);
    INSERT INTO app.boxes VALUES (1), (2), (11)`)
    await migrate({ connectionString, ...TABLE })
    await mark(pool, '1', '2', '11')
    assert.equal((await flush(pool)).updated, 3)
    await mark(pool, '1', '12')
    // The row moves to the other partition. Its old id is gone.
    await pool.query(
      'DELETE FROM workspace_usage WHERE workspace_id = 1; UPDATE app.boxes SET key = 12 WHERE key = 1',
    )
    assert.deepEqual(await counts(pool), { flushed: 1, updated: 1, unknown: 0, held: 0, awaited: 1 })
    // The partition is split: its rows leave the table and come back.
    await pool.query(`DELETE FROM workspace_usage WHERE workspace_id >= 10; ALTER TABLE app.boxes DETACH PARTITION app.high;
    CREATE TABLE app.higher PARTITION OF app.boxes FOR VALUES FROM (10) TO (30)`)
    await mark(pool, '11', '12', '2')
    assert.deepEqual(await counts(pool), { flushed: 1, updated: 1, unknown: 0, held: 0, awaited: 3 })
    await pool.query('INSERT INTO app.boxes SELECT * FROM app.high')
    assert.equal((await flush(pool)).updated, 2)
  },
)

testOnBothVersions(
  'a trigger of the table finds its own tables by the search_path that it sets, and by that of the worker',
  async ({ connectionString, pool }) => {
    await pool.query(`${BOXES}; INSERT INTO app.boxes VALUES ('a'); CREATE TABLE app.log (line text);
    CREATE FUNCTION app.own_path() RETURNS trigger LANGUAGE plpgsql SET search_path = app
      AS $$ BEGIN INSERT INTO log VALUES ('own ' || NEW.key); RETURN NEW; END $$;
    CREATE FUNCTION app.path_of_the_session() RETURNS trigger LANGUAGE plpgsql
      AS $$ BEGIN INSERT INTO log VALUES ('session ' || NEW.key); RETURN NEW; END $$;
    CREATE TRIGGER one BEFORE UPDATE ON app.boxes FOR EACH ROW EXECUTE FUNCTION app.own_path();
    CREATE TRIGGER two BEFORE UPDATE ON app.boxes FOR EACH ROW EXECUTE FUNCTION app.path_of_the_session()`)
    await migrate({ connectionString, ...TABLE })
    await mark(pool, 'a')
    // Without the schema in the path of the worker, the second one fails, and its workspace is refused.
    assert.equal((await flush(pool)).refused, 1)
    const client = await pool.connect()
    await client.query('SET search_path = public, app; UPDATE refused_usage SET next_attempt_at = now()')
    await flush(client)
    await end(client, 'RESET search_path')
    assert.deepEqual(await usedOf(pool), ['a'])
    assert.deepEqual((await pool.query('SELECT line FROM app.log ORDER BY line')).rows, [
      { line: 'own a' },
      { line: 'session a' },
    ])
  },
)

testOnBothVersions(
  'a lookup of one workspace and a flush use the index of the table below, and read a few pages',
  async ({ connectionString, pool }) => {
    for (const [type, id] of [
      ['uuid', 'gen_random_uuid()'],
      ['bigint', 'n'],
      ['varchar(60) COLLATE "C"', `'box ' || n`],
    ]) {
      await pool.query(`DROP SCHEMA IF EXISTS app CASCADE; CREATE SCHEMA app;
      CREATE TABLE app.boxes (key ${type} PRIMARY KEY, "usedAt" timestamptz, deleted_at timestamptz);
      INSERT INTO app.boxes (key) SELECT ${id} FROM generate_series(1, 20000) n; ANALYZE app.boxes`)
      await migrate({ connectionString, ...TABLE, where: 'deleted_at IS NULL' })
      await pool.query(`INSERT INTO workspace_usage SELECT key, 'test', now() FROM app.boxes; ANALYZE workspace_usage;
      INSERT INTO pending_usage SELECT now() - interval '1 s', key, 'test' FROM app.boxes LIMIT 100`)
      const { rows } = await pool.query('SELECT key FROM app.boxes LIMIT 1')
      const client = await pool.connect()
      for (const view of ['workspace_activity', 'workspace_activity_by_source']) {
        const lookup = `SELECT * FROM ${view} WHERE workspace_id = '${rows[0].key}'`
        // The first one of a connection also fills its caches of the catalogs.
        await execution(client, lookup)
        const { pages, text } = await execution(client, lookup)
        assert.ok(pages < 100, `${view} of ${type} reads ${pages} pages:\n${text}`)
      }
      const before = await scansOf(client)
      assert.equal((await flush(client)).updated, 100)
      assert.equal(await scansOf(client), before, `a flush of ${type} scans the whole table`)
      client.release()
      await uninstall({ connectionString })
    }
  },
)

/** How often all of the table was read, as far as connections have told. This one tells now. */
async function scansOf(client: PoolClient): Promise<string> {
  await client.query('SELECT pg_stat_force_next_flush()')
  const { rows } = await client.query(
    `SELECT seq_scan::text AS scans FROM pg_stat_user_tables WHERE relid = 'app.boxes'::regclass`,
  )
  return rows[0].scans
}

async function mark(pool: TestDatabase['pool'], ...ids: string[]): Promise<void> {
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT clock_timestamp() - interval '1 s', id::${await typeOf(pool)}, 'test' FROM unnest($1::text[]) AS id`,
    [ids],
  )
}

async function typeOf(pool: TestDatabase['pool']): Promise<string> {
  const { rows } = await pool.query(`SELECT format_type(atttypid, NULL) AS type FROM pg_attribute
    WHERE attrelid = 'pending_usage'::regclass AND attname = 'workspace_id'`)
  return rows[0].type
}

async function counts(pool: TestDatabase['pool']): Promise<Record<string, number>> {
  const { flushed, updated, unknown, held, awaited } = await flush(pool)
  return { flushed, updated, unknown, held, awaited }
}

async function usedOf(pool: TestDatabase['pool']): Promise<string[]> {
  const { rows } = await pool.query('SELECT key FROM app.boxes WHERE "usedAt" IS NOT NULL ORDER BY key')
  return rows.map(({ key }) => key)
}

async function end(client: PoolClient, statement: string): Promise<void> {
  await client.query(statement)
  client.release()
}
