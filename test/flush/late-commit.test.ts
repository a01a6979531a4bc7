import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces, lastUsedAt, storeClosedMarks } from '../support/seed.ts'

const DEAD = 70_000

/** Among many dead marks, a flush walks only where there may be marks. These are the marks that it could miss. */
async function takesLateMarks(database: TestDatabase): Promise<void> {
  const { pool } = database
  const connect = () => database.connect()
  await keepDeadMarks(database)

  // Stored before flushes, committed after them: a transaction that is open for a moment, one for long, one that is
  // rolled back to a savepoint, and one that is prepared.
  const [short, long, undone, prepared] = await createWorkspaces(pool, 4)
  const markers = await Promise.all([connect(), connect(), connect(), connect()])
  for (const marker of markers) await marker.query('BEGIN')
  const ends: (Date | null)[] = []
  for (const [index, id] of [short, long, undone, prepared].entries()) {
    await markers[index]!.query('SAVEPOINT before')
    ends.push(await storeClosedMarks(markers[index]!, [id!], { agoMs: 0 }))
  }
  await markers[2]!.query('ROLLBACK TO SAVEPOINT before')
  ends[2] = null
  await markers[3]!.query("PREPARE TRANSACTION 'late'")
  assert.equal((await flush(pool)).flushed, 0)
  assert.equal((await flush(pool)).flushed, 0)
  const used = () => lastUsedAt(pool, [short!, long!, undone!, prepared!])
  assert.deepEqual(await used(), [null, null, null, null])

  await markers[0]!.query('COMMIT')
  assert.deepEqual(await pendingOf(pool, short!), [true])
  assert.equal((await flush(pool)).flushed, 1)
  assert.equal((await flush(pool)).flushed, 0)
  for (const marker of markers.slice(1, 3)) await marker.query('COMMIT')
  assert.deepEqual(await pendingOf(pool, long!), [true])
  assert.equal((await flush(pool)).flushed, 1)
  await pool.query("COMMIT PREPARED 'late'")
  assert.deepEqual(await pendingOf(pool, prepared!), [true])
  assert.equal((await flush(pool)).flushed, 1)
  assert.deepEqual(await used(), ends)
}

/** A flush that is rolled back gives back the marks that others have skipped meanwhile. */
async function takesWhatAnotherFlushGaveBack(database: TestDatabase): Promise<void> {
  const { pool } = database
  const connect = () => database.connect()
  await keepDeadMarks(database)
  const ids = await createWorkspaces(pool, 100)
  await storeClosedMarks(pool, ids, { agoMs: 0 })
  const other = await connect()
  await other.query('BEGIN')
  assert.equal((await flush(other, { batchSize: 40 })).flushed, 40)
  assert.equal((await drain(pool)).flushed, 60)
  await other.query('ROLLBACK')
  assert.equal((await drain(pool)).flushed, 40)
  assert.ok((await lastUsedAt(pool, ids)).every(at => at !== null))
}

/** Flushes many marks under an open transaction, until a flush has noted where there may still be some. */
async function keepDeadMarks(database: TestDatabase): Promise<void> {
  const { pool } = database
  const holder = await database.connect()
  await holder.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
  await holder.query('SELECT count(*) FROM pending_usage_witness')
  await storeDeadMarks(pool)
  await until('the flush knows of the dead marks', async () => {
    await flush(pool)
    return (await noted(pool)) !== null
  })
}

async function storeDeadMarks(pool: TestDatabase['pool']): Promise<void> {
  const ids = await createWorkspaces(pool, 100)
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT now() - n * interval '1 s', id, 'ssh' FROM generate_series(60, 59 + $1::int) AS n, unnest($2::uuid[]) AS id`,
    [DEAD / ids.length, ids],
  )
  assert.equal((await drain(pool, { batchSize: 20_000 })).flushed, DEAD)
}

async function noted(pool: TestDatabase['pool']): Promise<unknown> {
  return (await pool.query('SELECT unsettled FROM pending_usage_witness')).rows[0].unsettled
}

async function pendingOf(pool: TestDatabase['pool'], id: string): Promise<boolean[]> {
  const { rows } = await pool.query('SELECT pending FROM workspace_activity WHERE workspace_id = $1', [id])
  return rows.map(({ pending }) => pending)
}

for (const [name, takes] of Object.entries({
  'among many dead marks, a mark that is committed late is seen at once and taken by the next flush':
    takesLateMarks,
  'among many dead marks, what a flush gives back is taken by the next one': takesWhatAnotherFlushGaveBack,
})) {
  test(name, async () => takes(await createTestDatabase()))
  test(`on PostgreSQL 15, ${name}`, async t => onPostgres15(t, takes))
}
