import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

/** A reason why PostgreSQL refuses the update of one workspace, and how a host repairs it. `id` is that workspace. */
interface Fault {
  name: string
  sqlState: string | null
  bringAbout(id: string): string
  repair: string
}

const raising = (timing: string, body: string) => `
  CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body} RETURN new; END $$;
  CREATE ${timing} ON workspaces FOR EACH ROW EXECUTE FUNCTION refuse()`
const DROP_TRIGGER = 'DROP TRIGGER refuse ON workspaces; DROP FUNCTION refuse()'

const FAULTS: Fault[] = [
  {
    name: 'a check that is not valid',
    sqlState: '23514',
    bringAbout: id => `ALTER TABLE workspaces ADD CONSTRAINT refuse CHECK (id <> '${id}') NOT VALID`,
    repair: 'ALTER TABLE workspaces DROP CONSTRAINT refuse',
  },
  {
    name: 'a trigger that raises before the update',
    sqlState: 'P0001',
    bringAbout: id =>
      raising('TRIGGER refuse BEFORE UPDATE', `IF new.id = '${id}' THEN RAISE 'not this one'; END IF;`),
    repair: DROP_TRIGGER,
  },
  {
    name: 'a deferred trigger, which raises at COMMIT',
    sqlState: 'U0001',
    bringAbout: id =>
      raising(
        'CONSTRAINT TRIGGER refuse AFTER UPDATE',
        `IF new.id = '${id}' THEN RAISE 'later' USING ERRCODE = 'U0001'; END IF;`,
      ).replace('FOR EACH ROW', 'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW'),
    repair: DROP_TRIGGER,
  },
  {
    name: 'a trigger that uses a table which does not exist',
    sqlState: '42P01',
    bringAbout: id =>
      raising('TRIGGER refuse BEFORE UPDATE', `IF new.id = '${id}' THEN PERFORM FROM missing; END IF;`),
    repair: DROP_TRIGGER,
  },
  {
    name: 'a trigger that divides by zero',
    sqlState: '22012',
    bringAbout: id =>
      raising('TRIGGER refuse AFTER UPDATE', `IF new.id = '${id}' THEN PERFORM 1 / 0; END IF;`),
    repair: DROP_TRIGGER,
  },
  {
    name: 'a trigger that cancels the update',
    sqlState: null,
    bringAbout: id =>
      raising('TRIGGER refuse BEFORE UPDATE', `IF new.id = '${id}' THEN RETURN NULL; END IF;`),
    repair: DROP_TRIGGER,
  },
  {
    name: 'a trigger that takes the new value back',
    sqlState: null,
    bringAbout: id =>
      raising(
        'TRIGGER refuse BEFORE UPDATE',
        `IF new.id = '${id}' THEN new.last_used_at := old.last_used_at; END IF;`,
      ),
    repair: DROP_TRIGGER,
  },
  {
    name: 'a unique index that the update would violate',
    sqlState: '23505',
    bringAbout: id => `
      ALTER TABLE workspaces ADD COLUMN slot int;
      UPDATE workspaces SET slot = 1 WHERE id = '${id}';
      CREATE UNIQUE INDEX refuse ON workspaces (slot) WHERE last_used_at IS NOT NULL;
      INSERT INTO workspaces (last_used_at, slot) VALUES (now(), 1)`,
    repair: 'DROP INDEX refuse',
  },
]

test('a workspace whose update is refused holds up no other, is named, and is flushed once the reason is gone', async t => {
  await holdsUpNobody(t, await createTestDatabase())
})

test('a refused workspace holds up no other on PostgreSQL 15 either', async t => {
  await onPostgres15(t, database => holdsUpNobody(t, database))
})

async function holdsUpNobody(
  t: { test(name: string, run: () => Promise<void>): Promise<void> },
  { pool }: TestDatabase,
): Promise<void> {
  for (const { name, sqlState, bringAbout, repair } of FAULTS) {
    await t.test(name, async () => {
      const ids = await createWorkspaces(pool, 20)
      const refused = ids[13]!
      const others = ids.filter(id => id !== refused)
      await pool.query(bringAbout(refused))
      const periodEnd = await storeClosedMarks(pool, ids)
      const result = await flush(pool)
      assert.deepEqual([result.flushed, result.updated, result.refused], [19, 19, 1])
      assert.deepEqual(
        result.refusals.map(refusal => [refusal.workspaceId, refusal.sqlState, refusal.attempts]),
        [[refused, sqlState, 1]],
      )
      assert.deepEqual(
        await lastUsedAt(pool, others),
        others.map(() => periodEnd),
      )
      assert.equal(await pendingCount(pool), 1)
      // A mark of a workspace that is known to be refused costs no attempt.
      const later = await storeClosedMarks(pool, [refused], { agoMs: 1 })
      const again = await flush(pool)
      assert.deepEqual([again.flushed, again.refused, again.refusals.length], [0, 1, 0])
      await pool.query(repair)
      await pool.query('UPDATE refused_usage SET next_attempt_at = now()')
      await flush(pool)
      assert.deepEqual(await lastUsedAt(pool, [refused]), [later])
      assert.equal(await pendingCount(pool), 0)
      assert.equal((await pool.query('SELECT FROM refused_usage')).rowCount, 0)
    })
  }
}

test('the pause before the next attempt doubles, and every refused workspace is flushed after one success', async () => {
  const { pool } = await createTestDatabase()
  const ids = await createWorkspaces(pool, 60)
  await pool.query('ALTER TABLE workspaces ADD bad boolean NOT NULL DEFAULT false')
  await pool.query('UPDATE workspaces SET bad = true WHERE id = ANY ($1)', [ids.slice(0, 20)])
  await pool.query('ALTER TABLE workspaces ADD CONSTRAINT good CHECK (NOT bad) NOT VALID')
  await storeClosedMarks(pool, ids)
  const first = await drain(pool)
  assert.deepEqual([first.flushed, first.refusals.length], [40, 20])
  const [{ seconds }] = (
    await pool.query(`SELECT DISTINCT round(extract(epoch FROM next_attempt_at - since))::int AS seconds
    FROM refused_usage`)
  ).rows
  assert.equal(seconds, 10)
  await pool.query('UPDATE refused_usage SET next_attempt_at = now()')
  const started = Date.now()
  const { refusals } = await flush(pool)
  assert.equal(refusals[0]!.attempts, 2)
  const pause = refusals[0]!.nextAttemptAt.getTime() - started
  assert.ok(pause >= 19_900 && pause <= 20_000 + Date.now() - started, `${pause} ms`)
  await pool.query('ALTER TABLE workspaces DROP CONSTRAINT good')
  const last = await drain(pool, { retryRefused: true })
  assert.equal(last.flushed, 20)
  assert.equal(await pendingCount(pool), 0)
})

test('an error that concerns everybody sets nobody aside, and the marks stay where they are', async () => {
  const { pool } = await createTestDatabase()
  const ids = await createWorkspaces(pool, 30)
  await storeClosedMarks(pool, ids)
  await pool.query(raising('TRIGGER refuse BEFORE UPDATE', `RAISE 'nobody';`))
  await assert.rejects(flush(pool), { code: 'P0001' })
  assert.equal((await pool.query('SELECT FROM refused_usage')).rowCount, 0)
  assert.equal((await pool.query('SELECT FROM ONLY pending_usage')).rowCount, 30)
  await pool.query(DROP_TRIGGER)
  assert.equal((await flush(pool)).flushed, 30)
})

test('halving takes no more statements than log2 of the batch and a few, and none when all is well', async () => {
  const database = await createTestDatabase()
  const { pool } = database
  const ids = await createWorkspaces(pool, 1_024)
  let flushes = 0
  const client = await database.connect()
  const counting = {
    query: (text: string, values?: unknown[]) => {
      if (text.includes('updated AS')) flushes++
      return client.query(text, values)
    },
  }
  const batchSize = ids.length
  await storeClosedMarks(pool, ids)
  await flush(counting, { batchSize })
  assert.equal(flushes, 1)
  for (const place of [0, 511, 512, 1_023]) {
    await pool.query('TRUNCATE refused_usage, pending_usage')
    await pool.query('ALTER TABLE workspaces DROP CONSTRAINT IF EXISTS refuse')
    await pool.query(`ALTER TABLE workspaces ADD CONSTRAINT refuse CHECK (id <> '${ids[place]}') NOT VALID`)
    await storeClosedMarks(pool, ids, { agoMs: 1 })
    flushes = 0
    assert.equal((await flush(counting, { batchSize })).refused, 1)
    // The first one, ten halves, the workspace by itself, and the rest.
    assert.ok(flushes <= 13, `${flushes} statements at place ${place}`)
  }
})
