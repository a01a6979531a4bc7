import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'
import { withClusterDatabase } from './support/cluster-database.ts'

await withClusterDatabase({}, database => {
  const { pool } = database
  beforeEach(async () => {
    await pool.query('TRUNCATE pending_usage, set_aside_usage, refused_usage, workspaces CASCADE')
    await pool.query('DELETE FROM source_usage')
  })

  test('marks of a workspace that somebody holds wait for it, and the others do not', async () => {
    const ids = await createWorkspaces(pool, 100)
    const periodEnd = await storeClosedMarks(pool, ids)
    {
      await using holder = await openTransaction(database)
      await holder.client.query('SELECT FROM workspaces WHERE id = $1 FOR UPDATE', [ids[0]])
      const { flushed, held } = await flush(pool)
      assert.deepEqual([flushed, held], [99, 1])
      const again = await flush(pool)
      assert.deepEqual([again.flushed, again.held], [0, 1])
      await holder.client.query('ROLLBACK')
    }
    const { flushed, held } = await flush(pool)
    assert.deepEqual([flushed, held], [1, 0])
    assert.deepEqual(await lastUsedAt(pool, [ids[0]!]), [periodEnd])
  })

  test('marks of ids that do not exist are awaited, and then unknown', async () => {
    const late = randomUUID()
    await storeClosedMarks(pool, [late, randomUUID(), randomUUID()])
    const first = await flush(pool)
    assert.deepEqual([first.flushed, first.awaited], [0, 3])
    await pool.query('INSERT INTO workspaces (id) VALUES ($1)', [late])
    const second = await flush(pool)
    assert.deepEqual([second.flushed, second.updated, second.unknown, second.awaited], [1, 1, 0, 2])
    const third = await flush(pool, { unknownAfterSeconds: 0 })
    assert.deepEqual([third.flushed, third.unknown, third.awaited], [2, 2, 0])
  })

  test('a workspace that the database refuses is set aside alone, and a drain tries it again', async () => {
    const ids = await createWorkspaces(pool, 100)
    await pool.query(
      `ALTER TABLE workspaces ADD CONSTRAINT unused CHECK (id <> '${ids[0]}' OR last_used_at IS NULL)`,
    )
    const periodEnd = await storeClosedMarks(pool, ids)
    const { flushed, refused, refusals, shardsLeft } = await flush(pool)
    assert.deepEqual([flushed, refused, shardsLeft], [99, 1, []])
    assert.deepEqual(
      refusals.map(({ workspaceId, sqlState, attempts }) => ({ workspaceId, sqlState, attempts })),
      [{ workspaceId: ids[0], sqlState: '23514', attempts: 1 }],
    )
    await storeClosedMarks(pool, ids.slice(0, 2))
    const next = await flush(pool)
    assert.deepEqual([next.flushed, next.refused], [1, 1])
    await pool.query('ALTER TABLE workspaces DROP CONSTRAINT unused')
    const drained = await drain(pool, { retryRefused: true })
    assert.deepEqual([drained.flushed, drained.refused], [1, 0])
    const [time] = await lastUsedAt(pool, [ids[0]!])
    assert.ok(time && time >= periodEnd)
    const { rows } = await pool.query('SELECT FROM refused_usage')
    assert.deepEqual([rows.length, await pendingCount(pool)], [0, 0])
  })

  test('a trigger on a shard that takes the time back refuses its workspace alone', async () => {
    const ids = await createWorkspaces(pool, 60)
    const client = await database.connect()
    await client.query('SET citus.enable_unsafe_triggers = on')
    await client.query(`CREATE FUNCTION take_back() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF NEW.id = '${ids[0]}' THEN RETURN NULL; END IF;
        RETURN NEW;
      END $$`)
    await client.query(
      'CREATE TRIGGER take_back BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION take_back()',
    )
    await storeClosedMarks(pool, ids)
    const { flushed, refused, refusals, shardsLeft } = await flush(pool)
    assert.deepEqual([flushed, refused, shardsLeft], [59, 1, []])
    assert.deepEqual(
      refusals.map(({ workspaceId, sqlState }) => [workspaceId, sqlState]),
      [[ids[0], null]],
    )
  })
})
