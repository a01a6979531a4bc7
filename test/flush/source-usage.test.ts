import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'

const database = await createTestDatabase()
const { pool } = database
const MINUTE_MS = 60_000

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces, source_usage CASCADE')
})

interface Row {
  source: string
  regular_since: Date
  last_used_at: Date
}

async function sourceUsage(): Promise<Record<string, [since: Date, last: Date]>> {
  const { rows } = await pool.query<Row>('SELECT * FROM source_usage')
  return Object.fromEntries(rows.map(row => [row.source, [row.regular_since, row.last_used_at]]))
}

/** Stores one mark of a new workspace. Returns the end of its period. */
async function storeMark(source: string, agoMinutes: number): Promise<Date> {
  const ids = await createWorkspaces(pool, 1)
  return await storeClosedMarks(pool, ids, { source, agoMs: agoMinutes * MINUTE_MS })
}

test('a flush notes the last period of each source, and since when the source is seen', async () => {
  const ssh = await storeMark('ssh', 5)
  const vscode = await storeMark('vscode', 3)
  const { bySource } = await flush(pool)
  assert.deepEqual(bySource, { ssh: 1, vscode: 1 })
  assert.deepEqual(await sourceUsage(), { ssh: [ssh, ssh], vscode: [vscode, vscode] })
  const later = await storeMark('ssh', 1)
  await flush(pool)
  assert.deepEqual(await sourceUsage(), { ssh: [ssh, later], vscode: [vscode, vscode] })
})

test('a source is seen without a break if its marks are almost an hour apart, and begins anew after a longer break', async () => {
  const first = await storeMark('kept', 181)
  await flush(pool)
  const anHourLater = await storeMark('kept', 121.1)
  await flush(pool)
  assert.deepEqual(await sourceUsage(), { kept: [first, anHourLater] })
  const muchLater = await storeMark('kept', 60)
  await flush(pool)
  assert.deepEqual(await sourceUsage(), { kept: [muchLater, muchLater] })
})

test('older marks that a later flush brings close the break before the newer ones', async () => {
  const newest = await storeMark('late', 10)
  await flush(pool)
  const older = await storeMark('late', 50)
  await flush(pool)
  assert.deepEqual(await sourceUsage(), { late: [older, newest] })
  // More than an hour before: the break stays.
  await storeMark('late', 120)
  await flush(pool)
  assert.deepEqual(await sourceUsage(), { late: [older, newest] })
})

test('marks of workspaces that do not exist or are held show that their source is there', async () => {
  const held = await storeMark('held', 1)
  await using holder = await openTransaction(database)
  await holder.client.query('SELECT FROM workspaces FOR UPDATE')
  const { held: heldMarks, bySource } = await flush(pool)
  assert.deepEqual([heldMarks, bySource], [1, {}])
  assert.deepEqual(await sourceUsage(), { held: [held, held] })
})

test('a flush does not wait for another one that has noted the same sources', async () => {
  await storeMark('known', 10)
  await flush(pool)
  await storeMark('known', 9)
  await storeMark('new', 9)
  await using slow = await openTransaction(database)
  assert.equal((await flush(slow.client)).flushed, 2)
  const [known, fresh] = [await storeMark('known', 8), await storeMark('new', 8)]
  const begun = performance.now()
  assert.equal((await flush(pool)).flushed, 2)
  assert.ok(performance.now() - begun < 5_000)
  await slow.client.query('COMMIT')
  const [knownNow, freshNow] = [await storeMark('known', 7), await storeMark('new', 7)]
  await flush(pool)
  const usage = await sourceUsage()
  assert.deepEqual([usage.known?.[1], usage.new?.[1]], [knownNow, freshNow])
  assert.ok(known < knownNow && fresh < freshNow)
})

test('a source whose row was deleted is noted anew with its next mark', async () => {
  await storeMark('retired', 30)
  await flush(pool)
  await pool.query('DELETE FROM source_usage')
  const next = await storeMark('retired', 1)
  await flush(pool)
  assert.deepEqual(await sourceUsage(), { retired: [next, next] })
})

test('ids that are used as sources fill at most 1,000 rows, and all their marks are flushed', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT statement_timestamp() - interval '1 s', $1, 'session ' || n FROM generate_series(1, 1500) n`,
    [id],
  )
  const { flushed, bySource } = await flush(pool, { batchSize: 1_200 })
  assert.equal(flushed, 1_200)
  assert.equal((await flush(pool)).flushed, 300)
  assert.equal(Object.keys(bySource).length, 21)
  assert.equal(bySource.other, 1_180)
  const { rows } = await pool.query('SELECT count(*)::int AS sources FROM source_usage')
  assert.deepEqual(rows, [{ sources: 1_000 }])
})

test('marks are counted by source whatever the source is called', async () => {
  for (const source of ['__proto__', 'constructor', 'other', '"quoted"', "it's", 'Grün'])
    await storeMark(source, 1)
  const { bySource } = await flush(pool)
  assert.deepEqual(
    new Set(Object.entries(bySource).map(([source, marks]) => `${source} ${marks}`)),
    new Set(['__proto__ 1', 'constructor 1', 'other 1', '"quoted" 1', "it's 1", 'Grün 1']),
  )
})

test('a flush that finds pending_usage emptied notes for good when, and what had been flushed by then', async () => {
  const until = await storeMark('ssh', 5)
  await flush(pool)
  await pool.query('TRUNCATE pending_usage, pending_usage_witness')
  const before = new Date()
  assert.equal((await flush(pool)).emptied, true)
  assert.equal((await flush(pool)).emptied, false)
  const { rows } = await pool.query('SELECT * FROM pending_usage_reset')
  assert.equal(rows.length, 1)
  assert.deepEqual(rows[0].flushed_until, until)
  assert.ok(rows[0].noticed_at >= before)
})
