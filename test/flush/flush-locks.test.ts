import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { createTestDatabase } from '../support/database.ts'
import { untilBlocked } from '../support/locks.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('a mark of an id that is being flushed by a transaction still open returns at once', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!])
  await using flusher = await transaction()
  assert.equal((await flush(flusher.client)).flushed, 1)
  // Would wait for as long as the transaction is open, that is for ever.
  const { stored } = await markUsage(pool, id!)
  assert.equal(stored, 1)
})

test('the same mark waits for the flush if the key is the workspace alone', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await pool.query('CREATE UNLOGGED TABLE IF NOT EXISTS pending_by_workspace (workspace_id uuid PRIMARY KEY)')
  const mark = 'INSERT INTO pending_by_workspace (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING'
  await pool.query(mark, [id])
  const marker = await database.connect()
  await using flusher = await transaction()
  await flusher.client.query('DELETE FROM pending_by_workspace')
  const marking = marker.query(mark, [id])
  assert.deepEqual(await untilBlocked(pool, marker.processID), [flusher.client.processID])
  await flusher.client.query('COMMIT')
  await marking
})

test('a workspace that another transaction has locked is held, and flushed when it is free', async () => {
  const ids = await createWorkspaces(pool, 10_000)
  const periodEnd = await storeClosedMarks(pool, ids)
  const locked = ids[5_000]!
  await using application = await transaction()
  await application.client.query('UPDATE workspaces SET last_used_at = NULL WHERE id = $1', [locked])

  const { flushed, updated, unknown, held } = await flush(pool, { batchSize: 10_000 })
  assert.deepEqual(
    { flushed, updated, unknown, held },
    { flushed: 9_999, updated: 9_999, unknown: 0, held: 1 },
  )
  const { rows } = await pool.query('SELECT workspace_id FROM pending_usage')
  assert.deepEqual(rows, [{ workspace_id: locked }])

  await application.client.query('COMMIT')
  assert.equal((await flush(pool)).updated, 1)
  assert.deepEqual(await lastUsedAt(pool, [locked]), [periodEnd])
})

test('marks that are held do not keep a drain from the marks behind them', async () => {
  const ids = await createWorkspaces(pool, 40)
  await storeClosedMarks(pool, ids, { agoMs: 60_000 })
  const held = ids.slice(0, 25)
  await storeClosedMarks(pool, held, { agoMs: 1_000 })
  await using application = await transaction()
  await application.client.query('SELECT FROM workspaces WHERE id = ANY ($1) FOR UPDATE', [held])
  const result = await drain(pool, { batchSize: 10 })
  assert.equal(result.flushed, 15)
  assert.equal(await pendingCount(pool), 50)
})

test('a workspace that changes between the snapshot and the lock of a flush is followed to its newest version', async () => {
  const ids = await createWorkspaces(pool, 2_000)
  const periodEnd = await storeClosedMarks(pool, ids)
  // Rewrites every row, over and over, while flushes run: each row then has moved since most snapshots.
  const writer = await database.connect()
  let writing = true
  const writes = (async () => {
    while (writing) await writer.query('UPDATE workspaces SET last_used_at = last_used_at')
  })()
  let flushed = 0
  while (flushed < ids.length) flushed += (await flush(pool, { batchSize: 100 })).flushed
  writing = false
  await writes
  assert.deepEqual(await lastUsedAt(pool, ids), Array(ids.length).fill(periodEnd))
})

test('flushes do not deadlock with an application that writes many workspaces in any order', async () => {
  const ids = await createWorkspaces(pool, 1_000)
  let flushing = true
  const writers = Array.from({ length: 3 }, async (_, writer) => {
    const client = await database.connect()
    let deadlocks = 0
    while (flushing) {
      await client.query('BEGIN')
      // One row after the other, each time in another order, is what a deadlock needs. The writers have rows of
      // their own, so that they can't deadlock with each other.
      const own = ids.filter((_, index) => index % 3 === writer)
      for (const id of shuffled(own).slice(0, 20)) {
        await client.query('UPDATE workspaces SET id = id WHERE id = $1', [id]).catch(error => {
          assert.equal(error.code, '40P01')
          deadlocks += 1
        })
      }
      await client.query('COMMIT')
    }
    return deadlocks
  })
  for (let round = 0; round < 40; round++) {
    await storeClosedMarks(pool, shuffled(ids), { source: `round ${round}` })
    await Promise.all([drain(pool, { batchSize: 300 }), drain(pool, { batchSize: 200 })])
  }
  flushing = false
  assert.deepEqual(await Promise.all(writers), [0, 0, 0])
  await drain(pool)
  assert.equal(await pendingCount(pool), 0)
})

test('a mark that is not committed yet is left alone, and flushed once it is', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await using marker = await transaction()
  await storeClosedMarks(marker.client, [id!])
  assert.deepEqual(await flush(pool), {
    flushed: 0,
    workspaces: 0,
    updated: 0,
    unknown: 0,
    held: 0,
    full: false,
    resume: null,
  })
  await marker.client.query('COMMIT')
  assert.equal((await flush(pool)).flushed, 1)
})

/** A connection with a transaction open, which is rolled back unless the test ended it. */
async function transaction() {
  const client = await database.connect()
  await client.query('BEGIN')
  return { client, [Symbol.asyncDispose]: () => client.end() }
}

function shuffled<Value>(values: readonly Value[]): Value[] {
  return values
    .map(value => ({ value, order: Math.random() }))
    .sort((a, b) => a.order - b.order)
    .map(({ value }) => value)
}
