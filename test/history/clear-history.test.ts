import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { InvalidOptionError } from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { clearHistory } from '../../src/history/clear-history.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

const database = await createTestDatabase()
const { pool } = database
const DAY_MS = 86_400_000

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces, source_usage CASCADE')
})

async function useDaysAgo(ids: readonly string[], ...days: number[]): Promise<void> {
  for (const ago of days) await storeClosedMarks(pool, ids, { agoMs: ago * DAY_MS + 1_000, source: 'ssh' })
  await flush(pool)
}

/** How many days ago the rows of a workspace are. */
async function agesOf(id: string): Promise<number[]> {
  const { rows } = await pool.query<{ age: number }>(
    `SELECT (statement_timestamp() AT TIME ZONE 'UTC')::date - day AS age FROM workspace_usage_day
    WHERE workspace_id = $1 ORDER BY day`,
    [id],
  )
  return rows.map(({ age }) => age)
}

test('days that are older than the history goes back are removed, and the last use of each source stays', async () => {
  const [used, old] = await createWorkspaces(pool, 2)
  await useDaysAgo([used!], 0, 29, 30, 31, 60)
  await useDaysAgo([old!], 40, 50)
  const ages = await agesOf(used!)
  assert.deepEqual(await clearHistory(pool), { cleared: ages.filter(age => age > 30).length + 1, orphans: 0 })
  assert.deepEqual(
    await agesOf(used!),
    ages.filter(age => age <= 30),
  )
  assert.equal((await agesOf(old!)).length, 1)
  const { rows } = await pool.query(
    'SELECT last_used_at FROM workspace_activity_by_source WHERE workspace_id = $1',
    [old],
  )
  assert.ok(rows[0].last_used_at < new Date(Date.now() - 39 * DAY_MS))
})

test('with no history, only the last use of each source stays, also if its row is of no day', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await useDaysAgo([id!], 2, 5)
  await storeClosedMarks(pool, [id!], { source: 'ssh' })
  await flush(pool, { history: false })
  assert.equal((await agesOf(id!)).length, 3)
  assert.deepEqual(await clearHistory(pool, { historyDays: 0 }), { cleared: 2, orphans: 0 })
  const { rows } = await pool.query('SELECT day::text FROM workspace_usage_day')
  assert.deepEqual(rows, [{ day: '1970-01-01' }])
})

test('a row that somebody has locked stays, and nobody is waited for', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await useDaysAgo([id!], 0, 100)
  const holder = await database.connect()
  await holder.query('BEGIN')
  await holder.query('SELECT FROM workspace_usage_day FOR UPDATE')
  assert.equal((await clearHistory(pool)).cleared, 0)
  await holder.query('ROLLBACK')
  await holder.end()
  assert.equal((await clearHistory(pool)).cleared, 1)
})

test('rows of an older release go when there is a newer one of the same source', async () => {
  const [first, second] = await createWorkspaces(pool, 2)
  await pool.query(
    "INSERT INTO workspace_usage SELECT id, 'ssh', now() - interval '1 day' FROM unnest($1::uuid[]) AS id",
    [[first, second]],
  )
  await useDaysAgo([first!], 0)
  assert.equal((await clearHistory(pool)).cleared, 1)
  const { rows } = await pool.query('SELECT workspace_id FROM ONLY workspace_usage')
  assert.deepEqual(rows, [{ workspace_id: second }])
})

test('what is left of workspaces that are gone is removed after a day if there is no foreign key', async () => {
  const other = await createTestDatabase()
  const [kept, gone, young] = await createWorkspaces(other.pool, 3)
  await storeClosedMarks(other.pool, [kept!, gone!], { agoMs: 2 * DAY_MS })
  await storeClosedMarks(other.pool, [young!])
  await flush(other.pool)
  await other.pool.query(`
    ALTER TABLE workspace_usage DROP CONSTRAINT workspace_usage_workspace_id_fkey;
    ALTER TABLE workspace_usage_day DROP CONSTRAINT workspace_usage_day_workspace_id_fkey`)
  await other.pool.query('DELETE FROM workspaces WHERE id = ANY ($1::uuid[])', [[gone, young]])
  assert.deepEqual(await clearHistory(other.pool), { cleared: 0, orphans: 1 })
  const { rows } = await other.pool.query('SELECT workspace_id FROM workspace_usage ORDER BY 1')
  assert.deepEqual(
    rows.map(row => row.workspace_id),
    [kept, young].toSorted(),
  )
})

test('an aborted signal ends it before the next step, and wrong options are refused', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await useDaysAgo([id!], 0, 100)
  assert.deepEqual(await clearHistory(pool, { signal: AbortSignal.abort() }), { cleared: 0, orphans: 0 })
  for (const historyDays of [-1, 1.5, 4_000, Number.NaN]) {
    await assert.rejects(clearHistory(pool, { historyDays }), InvalidOptionError)
  }
})
