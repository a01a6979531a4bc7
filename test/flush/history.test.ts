import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { setPeriodLength } from '../support/period.ts'
import { createWorkspaces } from '../support/seed.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces, source_usage CASCADE')
  await setPeriodLength(pool, 30)
})

interface Day {
  day: string
  /** The numbers of the slots in which it was used. */
  slots: number[]
  first: string
  last: string
}

async function days(id: string, source = 'ssh'): Promise<Day[]> {
  const { rows } = await pool.query<{ line: Day & { bits: string } }>(
    `SELECT json_build_object('day', day, 'bits', slots::text, 'first', first_used_at AT TIME ZONE 'UTC',
      'last', last_used_at AT TIME ZONE 'UTC') AS line
    FROM workspace_usage_day WHERE workspace_id = $1 AND source = $2 ORDER BY day`,
    [id, source],
  )
  return rows.map(({ line: { bits, ...day } }) => ({
    ...day,
    slots: [...bits].flatMap((bit, slot) => (bit === '1' ? slot : [])),
  }))
}

async function mark(id: string, periodEnd: string, source = 'ssh'): Promise<void> {
  await pool.query('INSERT INTO pending_usage (period_end, workspace_id, source) VALUES ($1, $2, $3)', [
    periodEnd,
    id,
    source,
  ])
}

test('a mark fills the five minutes in which its period ends, and the end of a slot belongs to it', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await mark(id!, '2026-03-01 10:05:00Z')
  await mark(id!, '2026-03-01 10:05:30Z')
  await mark(id!, '2026-03-01 10:30:00Z')
  await flush(pool)
  assert.deepEqual(await days(id!), [
    { day: '2026-03-01', slots: [120, 121, 125], first: '2026-03-01T10:04:30', last: '2026-03-01T10:30:00' },
  ])
})

test('the last period of a day belongs to that day, and the first one to the next', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await mark(id!, '2026-03-02 00:00:00Z')
  await mark(id!, '2026-03-02 00:00:30Z')
  await flush(pool)
  assert.deepEqual(await days(id!), [
    { day: '2026-03-01', slots: [287], first: '2026-03-01T23:59:30', last: '2026-03-02T00:00:00' },
    { day: '2026-03-02', slots: [0], first: '2026-03-02T00:00:00', last: '2026-03-02T00:00:30' },
  ])
})

test('a period that is longer than a slot fills all its slots, also those of the day before', async () => {
  await setPeriodLength(pool, 1_200)
  const [id] = await createWorkspaces(pool, 1)
  await mark(id!, '2026-03-02 00:10:00Z')
  await flush(pool)
  assert.deepEqual(await days(id!), [
    { day: '2026-03-01', slots: [286, 287], first: '2026-03-01T23:50:00', last: '2026-03-02T00:00:00' },
    { day: '2026-03-02', slots: [0, 1], first: '2026-03-02T00:00:00', last: '2026-03-02T00:10:00' },
  ])
})

test('a period that begins in one slot and ends in another fills the one in which it ends', async () => {
  await setPeriodLength(pool, 7)
  const [id] = await createWorkspaces(pool, 1)
  await mark(id!, '2026-03-01 10:05:03Z')
  await flush(pool)
  assert.deepEqual((await days(id!))[0]!.slots, [121])
})

test('older marks that a later flush brings are added, and what is there stays', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await mark(id!, '2026-03-01 12:00:00Z')
  await flush(pool)
  await mark(id!, '2026-03-01 11:00:00Z')
  await mark(id!, '2026-02-28 11:00:00Z')
  await flush(pool)
  assert.deepEqual(await days(id!), [
    { day: '2026-02-28', slots: [131], first: '2026-02-28T10:59:30', last: '2026-02-28T11:00:00' },
    { day: '2026-03-01', slots: [131, 143], first: '2026-03-01T10:59:30', last: '2026-03-01T12:00:00' },
  ])
})

test('each source has a history of its own', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await mark(id!, '2026-03-01 12:00:00Z')
  await mark(id!, '2026-03-01 13:00:00Z', 'vscode')
  await flush(pool)
  assert.deepEqual((await days(id!))[0]!.slots, [143])
  assert.deepEqual((await days(id!, 'vscode'))[0]!.slots, [155])
})

test('a flush without history keeps the last use in one row, and a later one with history keeps both', async () => {
  const [id] = await createWorkspaces(pool, 1)
  for (const end of ['2026-03-01 12:00:00Z', '2026-03-03 12:00:00Z']) {
    await mark(id!, end)
    await flush(pool, { history: false })
  }
  const last = { day: '1970-01-01', slots: [], first: '2026-03-01T12:00:00', last: '2026-03-03T12:00:00' }
  assert.deepEqual(await days(id!), [last])
  const { rows } = await pool.query('SELECT FROM workspace_usage_daily')
  assert.equal(rows.length, 0)
  await mark(id!, '2026-03-02 12:00:00Z')
  await flush(pool)
  assert.deepEqual(
    (await days(id!)).map(({ day }) => day),
    ['1970-01-01', '2026-03-02'],
  )
})

test('a flush writes one version of one row for each workspace and source, as it did without a history', async () => {
  const ids = await createWorkspaces(pool, 100)
  const client = await database.connect()
  const written = async () => {
    const { rows } = await client.query<{ versions: string }>(
      `SELECT sum(pg_stat_get_xact_tuples_inserted(oid) + pg_stat_get_xact_tuples_updated(oid))::text AS versions
      FROM pg_class WHERE oid IN ('workspace_usage'::regclass, 'workspace_usage_day'::regclass, 'workspaces'::regclass)`,
    )
    return Number(rows[0]!.versions)
  }
  for (const end of ['2026-03-01 12:00:00Z', '2026-03-01 12:00:30Z', '2026-03-01 12:07:00Z']) {
    await pool.query(
      `INSERT INTO pending_usage (period_end, workspace_id, source) SELECT $1, id, 'ssh' FROM unnest($2::uuid[]) AS id`,
      [end, ids],
    )
    await client.query('BEGIN')
    const before = await written()
    await flush(client)
    const after = await written()
    await client.query('COMMIT')
    assert.equal(after - before, 200)
  }
  await client.end()
})

test('marks with times that no day has are flushed without a history', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await mark(id!, '-infinity')
  await mark(id!, '0001-01-01 BC')
  const { flushed } = await flush(pool)
  assert.equal(flushed, 2)
  assert.deepEqual(await days(id!), [])
})

test('a view shows the minutes of each day, with pending marks and with the open period', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await mark(id!, '2026-03-01 12:00:00Z')
  await mark(id!, '2026-03-01 12:07:00Z')
  await flush(pool)
  await mark(id!, '2026-03-01 12:14:00Z')
  const { rows } = await pool.query(
    `SELECT day::text, source, minutes_used, (first_used_at AT TIME ZONE 'UTC')::text AS first,
      (last_used_at AT TIME ZONE 'UTC')::text AS last
    FROM workspace_usage_daily WHERE workspace_id = $1`,
    [id],
  )
  assert.deepEqual(rows, [
    {
      day: '2026-03-01',
      source: 'ssh',
      minutes_used: 15,
      first: '2026-03-01 11:59:30',
      last: '2026-03-01 12:14:00',
    },
  ])
  await pool.query("INSERT INTO pending_usage (workspace_id, source) VALUES ($1, 'now')", [id])
  const now = await pool.query(
    `SELECT minutes_used, first_used_at <= last_used_at AND last_used_at <= statement_timestamp() AS sane
    FROM workspace_usage_daily WHERE workspace_id = $1 AND source = 'now'`,
    [id],
  )
  assert.deepEqual(now.rows, [{ minutes_used: 5, sane: true }])
})
