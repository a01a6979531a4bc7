import assert from 'node:assert/strict'
import pg from 'pg'
import { grantPrivileges } from '../../src/access/grant.ts'
import type { Queryable } from '../../src/database/connection.ts'
import { type FlushOptions, type FlushResult, flush } from '../../src/flush/flush.ts'
import { migrate } from '../../src/schema/migrate.ts'
import type { TestDatabase } from '../support/database.ts'
import { untilBlocked } from '../support/locks.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'

/*
 * A flush updates at once what nobody has locked since it was written, and locks the rest first. Not every `workspaces`
 * tells the two apart.
 */

testOnBothVersions(
  'what nobody has locked is updated at once, and the rest is locked first',
  async ({ pool, connectionString }) => {
    await migrate({ connectionString })
    const ids = await createWorkspaces(pool, 20)
    // These locks are over, but they are still in the rows.
    await pool.query('SELECT FROM workspaces WHERE id = ANY ($1) FOR KEY SHARE', [ids.slice(0, 7)])
    await pool.query('SELECT FROM workspaces WHERE id = ANY ($1) FOR UPDATE', [ids.slice(7, 9)])
    for (const sources of [true, false]) {
      const at = await storeClosedMarks(pool, ids, { agoMs: sources ? 60_000 : 1_000 })
      const { direct, counts } = await flushed(pool, { sources })
      assert.deepEqual([direct, counts.workspaces, counts.updated, counts.flushed], [true, 20, 20, 20])
      assert.deepEqual(await lastUsedAt(pool, ids), Array(20).fill(at))
    }
    await storeClosedMarks(pool, ids, { agoMs: 120_000 })
    const { counts } = await flushed(pool)
    assert.deepEqual([counts.workspaces, counts.updated, counts.flushed], [20, 0, 20])
  },
)

testOnBothVersions('one that somebody holds costs the others no second attempt', async database => {
  const { pool, connectionString } = database
  await migrate({ connectionString })
  const ids = await createWorkspaces(pool, 5)
  await storeClosedMarks(pool, ids)
  await using host = await openTransaction(database)
  await host.client.query('UPDATE workspaces SET last_used_at = last_used_at WHERE id = $1', [ids[1]])
  const { attempts, counts } = await flushed(pool)
  assert.deepEqual([attempts, counts.flushed, counts.held], [1, 4, 1])
})

testOnBothVersions('children of the table have rows of their own', async ({ pool, connectionString }) => {
  await migrate({ connectionString })
  const ids = await createWorkspaces(pool, 20)
  await pool.query('CREATE TABLE child (PRIMARY KEY (id)) INHERITS (workspaces)')
  const { rows } = await pool.query('INSERT INTO child SELECT FROM generate_series(1, 20) RETURNING id')
  const inChild: string[] = rows.map(({ id }) => id)
  const marked = [...ids.slice(0, 5), ...inChild.slice(10, 15)]
  const at = await storeClosedMarks(pool, marked)
  assert.equal((await flushed(pool, { sources: false })).direct, false)
  const { rows: used } = await pool.query('SELECT id FROM workspaces WHERE last_used_at IS NOT NULL')
  assert.deepEqual(used.map(({ id }) => id).sort(), marked.toSorted())
  assert.deepEqual(await lastUsedAt(pool, marked), Array(10).fill(at))
})

testOnBothVersions(
  'the rows of a view do not tell whether somebody has locked them',
  async ({ pool, connectionString }) => {
    await pool.query('CREATE SCHEMA app; CREATE TABLE app.boxes (id uuid PRIMARY KEY, used timestamptz)')
    await migrate({ connectionString, table: 'app.boxes', lastUsedColumn: 'used' })
    const { rows } = await pool.query('INSERT INTO app.boxes SELECT gen_random_uuid() RETURNING id')
    const at = await storeClosedMarks(pool, [rows[0].id])
    assert.equal((await flushed(pool)).direct, false)
    assert.deepEqual(await lastUsedAt(pool, [rows[0].id]), [at])
  },
)

testOnBothVersions(
  'a worker that was granted its duty before xmax was part of it flushes all the same',
  async database => {
    const { pool, connectionString } = database
    await migrate({ connectionString })
    const role = await createLoginRole(connectionString, 'old worker')
    await grantPrivileges(pool, { workers: [role.name] })
    const ids = await createWorkspaces(pool, 3)
    const asWorker = role.pool(database)
    await storeClosedMarks(pool, ids, { agoMs: 60_000 })
    assert.equal((await flushed(asWorker)).direct, true)
    const quoted = pg.escapeIdentifier(role.name)
    await pool.query(`REVOKE SELECT (xmax) ON workspaces FROM ${quoted}`)
    const at = await storeClosedMarks(pool, ids)
    assert.equal((await flushed(asWorker)).direct, false)
    assert.deepEqual(await lastUsedAt(pool, ids), Array(3).fill(at))
    await pool.query(`DROP OWNED BY ${quoted}`)
  },
)

/** What somebody else does with a workspace right before it is updated, and what becomes of its mark. */
const RACES = {
  'locks it, and keeps the lock': { sql: 'SELECT FROM workspaces WHERE id = $1 FOR UPDATE', commits: false },
  'updates it, and commits': { sql: 'UPDATE workspaces SET name = $2 WHERE id = $1', commits: true },
  'deletes it, and commits': { sql: 'DELETE FROM workspaces WHERE id = $1', commits: true },
  'moves its last use, and commits': {
    sql: `UPDATE workspaces SET last_used_at = '2100-01-01Z' WHERE id = $1`,
    commits: true,
  },
}
type Race = keyof typeof RACES

const OUTCOMES: Record<Race, (counts: FlushResult, last: Date | null | undefined, at: Date) => void> = {
  'locks it, and keeps the lock': ({ flushed, held }, last) =>
    assert.deepEqual([flushed, held, last], [4, 1, null]),
  'updates it, and commits': ({ flushed, held, updated }, last, at) =>
    assert.deepEqual([flushed, held, updated, last], [5, 0, 5, at]),
  // The statement still sees the row that it began with.
  'deletes it, and commits': ({ flushed, held, updated }) =>
    assert.deepEqual([flushed, held, updated], [4, 1, 4]),
  'moves its last use, and commits': ({ flushed, updated }, last) =>
    assert.deepEqual([flushed, updated, last], [5, 4, new Date('2100-01-01Z')]),
}

for (const race of Object.keys(RACES) as Race[]) {
  testOnBothVersions(
    `the flush is right if somebody ${race}, between its look at the row and the update`,
    async database => {
      const { pool, connectionString } = database
      await migrate({ connectionString })
      // A check runs in between. This one waits, the first time that the workspace is updated.
      await pool.query(`
        ALTER TABLE workspaces ADD name text;
        CREATE TABLE gate (id uuid);
        CREATE SEQUENCE passed;
        CREATE FUNCTION passes(uuid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
          IF EXISTS (SELECT FROM gate WHERE id = $1) AND current_setting('application_name') = 'flusher'
            AND nextval('passed') = 1
          THEN SET LOCAL lock_timeout = 0; PERFORM pg_advisory_xact_lock_shared(1); SET LOCAL lock_timeout = 100; END IF;
          RETURN true;
        END $$;
        ALTER TABLE workspaces ADD CHECK (passes(id))`)
      const ids = await createWorkspaces(pool, 5)
      const id = ids[2]!
      await pool.query('INSERT INTO gate VALUES ($1)', [id])
      const at = await storeClosedMarks(pool, ids)
      await using host = await openTransaction(database)
      await host.client.query('SELECT pg_advisory_lock(1)')
      await using flusher = await openTransaction(database)
      await flusher.client.query(`ROLLBACK; SET application_name = 'flusher'`)
      const flushing = flush(flusher.client)
      await untilBlocked(pool, flusher.client.processID)
      const { sql, commits } = RACES[race]
      await host.client.query(sql, sql.includes('$2') ? [id, 'new'] : [id])
      if (commits) await host.client.query('COMMIT')
      await host.client.query('SELECT pg_advisory_unlock(1)')
      const counts = await flushing
      const [last] = await lastUsedAt(pool, [id])
      OUTCOMES[race](counts, last, at)
      assert.deepEqual(await lastUsedAt(pool, ids.toSpliced(2, 1)), Array(4).fill(at))
      if (!commits) await host.client.query('ROLLBACK')
      if (race === 'locks it, and keeps the lock') {
        assert.equal((await flush(pool)).updated, 1)
        assert.equal(await pendingCount(pool), 0)
      }
    },
  )
}

testOnBothVersions(
  'a trigger that stores another time is obeyed, and one that keeps the old time refuses its workspace alone',
  async ({ pool, connectionString }) => {
    await migrate({ connectionString })
    const ids = await createWorkspaces(pool, 6)
    await storeClosedMarks(pool, ids, { agoMs: 7_200_000 })
    // The foreign key of a row of the history locks its workspace, and that stays in the row.
    await flush(pool, { sources: false })
    const before = (await lastUsedAt(pool, ids))[0]!
    await pool.query(`
      CREATE TABLE kept (id uuid, how text);
      CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        CASE (SELECT how FROM kept WHERE kept.id = NEW.id)
          WHEN 'old' THEN NEW.last_used_at := OLD.last_used_at;
          WHEN 'earlier' THEN NEW.last_used_at := NEW.last_used_at - interval '1 min';
          WHEN 'later' THEN NEW.last_used_at := NEW.last_used_at + interval '1 min';
          ELSE NULL;
        END CASE;
        RETURN NEW;
      END $$;
      CREATE TRIGGER keeps BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION keeps()`)
    const ways = ['old', 'earlier', 'later']
    for (const [index, how] of ways.entries())
      await pool.query('INSERT INTO kept VALUES ($1, $2)', [ids[index], how])
    const at = await storeClosedMarks(pool, ids)
    const { flushed, updated, refused, refusals } = await flush(pool)
    assert.deepEqual([flushed, updated, refused], [5, 5, 1])
    assert.deepEqual(
      refusals.map(({ workspaceId, sqlState }) => [workspaceId, sqlState]),
      [[ids[0], null]],
    )
    const minute = (sign: number) => new Date(at.getTime() + sign * 60_000)
    assert.deepEqual(await lastUsedAt(pool, ids), [before, minute(-1), minute(1), at, at, at])
  },
)

/** Flushes, and tells whether the first statement updates anything at once. */
async function flushed(
  pool: TestDatabase['pool'],
  options: FlushOptions = {},
): Promise<{ direct: boolean; attempts: number; counts: FlushResult }> {
  const client = await pool.connect()
  const texts: string[] = []
  const listening: Queryable = {
    query: (sql, values) => {
      if (sql.includes('due AS')) texts.push(sql)
      return client.query(sql, values)
    },
  }
  try {
    const counts = await flush(listening, options)
    return { direct: texts[0]!.includes('moving AS'), attempts: texts.length, counts }
  } finally {
    client.release()
  }
}
