import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { suite, test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { storeBatch } from '../../src/mark/batch.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { migrateDown } from '../../src/schema/migrate-down.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'

/** The places in which a statement of a host runs for long before it marks. Each marks `$id` in the end. */
const LONG_STATEMENTS: Record<string, string> = {
  'a DO block': `DO $$ BEGIN PERFORM pg_sleep(0.5); ${markOf('$id')}; END $$`,
  'a procedure': `CALL mark_late('$id')`,
  'a trigger': `INSERT INTO host_event (workspace_id) SELECT '$id' FROM pg_sleep(0.5)`,
  'a function': `SELECT mark_in_function('$id') FROM pg_sleep(0.5)`,
  'a multi-row INSERT': `
    INSERT INTO pending_usage (workspace_id)
    SELECT CASE n WHEN 2 THEN '$id'::uuid ELSE gen_random_uuid() END
    FROM generate_series(1, 2) AS n, LATERAL (SELECT pg_sleep(0.25 * n)) slow ON CONFLICT DO NOTHING`,
}

const HOST_OBJECTS = `
  CREATE TABLE host_event (workspace_id uuid);
  CREATE FUNCTION mark_event() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN ${markOf('NEW.workspace_id', false)}; RETURN NEW; END $$;
  CREATE TRIGGER mark_event AFTER INSERT ON host_event FOR EACH ROW EXECUTE FUNCTION mark_event();
  CREATE FUNCTION mark_in_function(id uuid) RETURNS void LANGUAGE sql AS $$ ${markOf('id', false)} $$;
  CREATE PROCEDURE mark_late(id uuid) LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(0.5); ${markOf('id', false)}; END $$`

const servers = { 18: undefined, 15: await testServer15() }

for (const major of [18, 15] as const) {
  const on = servers[major]
  suite(`the clock of a mark on PostgreSQL ${major}`, { skip: on === null && POSTGRES_15_MISSING }, () => {
    const database = () => createTestDatabase(on ? { on } : {})

    test(`a mark in a long statement falls in the period of the moment of its row, on PostgreSQL ${major}`, async () => {
      const { pool } = await database()
      await setPeriodLength(pool, 0.1)
      await pool.query(HOST_OBJECTS)
      for (const [place, statement] of Object.entries(LONG_STATEMENTS)) {
        const id = randomUUID()
        const { rows: before } = await pool.query("SELECT clock_timestamp() + interval '0.45 s' AS used_at")
        await pool.query(statement.replaceAll('$id', id))
        const { rows } = await pool.query(
          'SELECT period_end > $2 AS later FROM pending_usage WHERE workspace_id = $1',
          [id, before[0].used_at],
        )
        assert.deepEqual(rows, [{ later: true }], place)
      }
    })

    test(`the rows of a batch of a tracker fall in the answered period or a later one, though their statement outlasts periods, on PostgreSQL ${major}`, async () => {
      const { pool } = await database()
      await setPeriodLength(pool, 0.02)
      const slow = await slowRows(pool)
      let outlasted = 0
      for (let round = 0; round < 20; round++) {
        await pool.query('TRUNCATE pending_usage')
        const answer = await storeBatch(
          pool,
          Array.from({ length: 8 }, () => randomUUID()),
          { source: 'ssh', idType: 'uuid' },
          5_000,
        )
        const answered = answer!.periodEnd
        const { rows } = await pool.query(
          'SELECT extract(epoch FROM period_end)::text AS ends FROM pending_usage ORDER BY period_end',
        )
        const ends = rows.map(row => Number(row.ends))
        assert.equal(ends.length, 8)
        assert.ok(ends[0]! >= answered, `a row ends at ${ends[0]}, before the answered ${answered}`)
        if (ends.at(-1)! > ends[0]!) outlasted++
      }
      assert.ok(outlasted > 10, `only ${outlasted} statements had rows on both sides of an end`)
      await slow.stop()
    })

    test(`a mark whose transaction is open at the end of its period is flushed after the commit, and not earlier than the mark, on PostgreSQL ${major}`, async () => {
      const db = await database()
      const { pool } = db
      await setPeriodLength(pool, 0.05)
      const id = randomUUID()
      await pool.query('INSERT INTO workspaces (id) VALUES ($1)', [id])
      const marker = await db.connect()
      await marker.query('BEGIN')
      const { rows: before } = await marker.query('SELECT clock_timestamp() AS used_at')
      await markUsage(marker, id)
      await until('the period of the mark has ended', async () => {
        const { rows } = await marker.query(
          'SELECT max(period_end) < clock_timestamp() AS ended FROM pending_usage',
        )
        return rows[0].ended
      })
      assert.equal((await flush(pool)).flushed, 0)
      await marker.query('COMMIT')
      assert.equal((await flush(pool)).flushed, 1)
      const { rows } = await pool.query('SELECT last_used_at > $2 AS later FROM workspaces WHERE id = $1', [
        id,
        before[0].used_at,
      ])
      assert.deepEqual(rows, [{ later: true }])
    })

    test(`marks that are stored survive the migration of the clock, up and down, on PostgreSQL ${major}`, async () => {
      const { pool, connectionString } = await database()
      await markUsage(pool, [randomUUID(), randomUUID()])
      const pending = async () =>
        (await pool.query('SELECT *, ctid FROM pending_usage ORDER BY workspace_id')).rows
      const before = await pending()
      while ((await migrateDown({ connectionString })) !== '0006_clock_of_a_mark');
      assert.deepEqual(await pending(), before)
      await migrate({ connectionString })
      assert.deepEqual(await pending(), before)
    })

    test(`a mark without a source is stored whatever the application name is, on PostgreSQL ${major}`, async () => {
      const db = await database()
      const names = [
        'ワークスペース',
        'é'.repeat(31),
        '🦊'.repeat(16),
        'x'.repeat(70),
        'a\\b\'c"d',
        ' ',
        '\u007f\t',
      ]
      for (const name of names) {
        const id = randomUUID()
        const client = await db.connect({ application_name: name })
        await markUsage(client, id)
        await client.query('SELECT set_config($1, $2, false)', ['application_name', `${name}2`])
        await markUsage(client, id)
        await client.query("SET application_name = ''")
        await markUsage(client, id)
        const { rows } = await db.pool.query('SELECT source FROM pending_usage WHERE workspace_id = $1', [id])
        assert.ok(rows.length >= 2, name)
        for (const { source } of rows) assert.ok([...source].length >= 1 && [...source].length <= 63, source)
      }
    })

    test(`a source that is given is stored as it is, also one of 63 characters of several bytes, on PostgreSQL ${major}`, async () => {
      const { pool } = await database()
      for (const source of ['🦊'.repeat(63), 'ワ'.repeat(63), 'x'.repeat(63)]) {
        const id = randomUUID()
        await markUsage(pool, id, { source })
        const { rows } = await pool.query('SELECT source FROM pending_usage WHERE workspace_id = $1', [id])
        assert.deepEqual(rows, [{ source }])
      }
    })
  })
}

function markOf(id: string, quoted = true): string {
  return `INSERT INTO pending_usage (workspace_id) VALUES (${quoted ? `'${id}'` : id}) ON CONFLICT DO NOTHING`
}

/** Makes each row of `pending_usage` take 5 ms. */
async function slowRows(pool: TestDatabase['pool']): Promise<{ stop(): Promise<unknown> }> {
  await pool.query(`
    CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$;
    CREATE TRIGGER take_time BEFORE INSERT ON pending_usage FOR EACH ROW EXECUTE FUNCTION take_time()`)
  return { stop: () => pool.query('DROP FUNCTION take_time() CASCADE') }
}
