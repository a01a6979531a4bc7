/*
 * Promise 4: last_used_at never moves backwards, and is never earlier than the last mark flushed. It becomes the end of
 * the last period in which the workspace was marked.
 */

import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { shuffled } from '../support/shuffled.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('a workspace marked in two periods is updated once, to the end of the later one', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!], { agoMs: 31_000 })
  const later = await storeClosedMarks(pool, [id!], { agoMs: 1_000 })
  const { flushed, workspaces, updated } = await flush(pool)
  assert.deepEqual({ flushed, workspaces, updated }, { flushed: 2, workspaces: 1, updated: 1 })
  assert.deepEqual(await lastUsedAt(pool, [id!]), [later])
})

test('marks of a period that ended before last_used_at, or with it, are deleted and change nothing', async () => {
  const ids = await createWorkspaces(pool, 2)
  const { rows } = await pool.query(
    `UPDATE workspaces SET last_used_at = date_trunc('milliseconds', now()) - interval '10 s'
     RETURNING last_used_at`,
  )
  const before = rows[0].last_used_at
  await storeClosedMarks(pool, [ids[0]!], { agoMs: 60_000 })
  await pool.query('INSERT INTO pending_usage SELECT last_used_at, id, $2 FROM workspaces WHERE id = $1', [
    ids[1],
    'equal',
  ])
  const { flushed, workspaces, updated } = await flush(pool)
  assert.deepEqual({ flushed, workspaces, updated }, { flushed: 2, workspaces: 2, updated: 0 })
  assert.deepEqual(await lastUsedAt(pool, ids), [before, before])
  assert.equal(await pendingCount(pool), 0)
})

test('flushes in any order, several at once, move last_used_at only forward, and to the last mark', async () => {
  await using other = await createTestDatabase()
  await other.pool.query(`
    CREATE TABLE moved (back boolean);
    CREATE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO moved VALUES (new.last_used_at < old.last_used_at);
      RETURN new;
    END $$;
    CREATE TRIGGER note_move AFTER UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION note_move()`)
  const ids = await createWorkspaces(other.pool, 50)
  const newest = new Map<string, Date>()
  let storing = true
  let flushed = 0
  const flushes = Array.from({ length: 3 }, async () => {
    while (storing) {
      const result = await flush(other.pool, { batchSize: 20 })
      flushed += result.flushed
    }
  })
  try {
    // Periods in random order, as they come when marks are late.
    for (const secondsAgo of shuffled(Array.from({ length: 40 }, (_, n) => n + 1))) {
      const marked = shuffled(ids).slice(0, 30)
      const periodEnd = await storeClosedMarks(other.pool, marked, { agoMs: secondsAgo * 1_000 })
      for (const id of marked) {
        if (periodEnd > (newest.get(id) ?? 0)) newest.set(id, periodEnd)
      }
      // Without this, a busy machine may flush all periods at once, the newest first.
      const before = flushed
      await until('a flush has taken some of them', () => flushed > before)
    }
  } finally {
    storing = false
  }
  await Promise.all(flushes)
  while ((await flush(other.pool)).flushed > 0);
  assert.deepEqual(
    await lastUsedAt(other.pool, ids),
    ids.map(id => newest.get(id) ?? null),
  )
  const { rows } = await other.pool.query(
    'SELECT count(*)::int AS moves, (count(*) FILTER (WHERE back))::int AS back FROM moved',
  )
  assert.ok(rows[0].moves > ids.length, `${rows[0].moves} moves prove little`)
  assert.equal(rows[0].back, 0)
})

test('a flush updates the newest version of a workspace that changes between the snapshot and the lock of the flush', async () => {
  const ids = await createWorkspaces(pool, 2_000)
  const periodEnd = await storeClosedMarks(pool, ids)
  // Rewrites every row again and again while flushes run, so that most snapshots see an old version of a row.
  const writer = await database.connect()
  let writing = true
  const writes = (async () => {
    while (writing) await writer.query('UPDATE workspaces SET last_used_at = last_used_at')
  })()
  let flushed = 0
  while (flushed < ids.length) {
    const result = await flush(pool, { batchSize: 100 })
    assert.deepEqual(result.refusals, [])
    flushed += result.flushed
  }
  writing = false
  await writes
  assert.deepEqual(await lastUsedAt(pool, ids), Array(ids.length).fill(periodEnd))
})
