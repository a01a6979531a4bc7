import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { explainUsage } from '../../src/activity/explain.ts'
import { type SourceHistory, usageHistory } from '../../src/activity/history.ts'
import {
  InvalidOptionError,
  InvalidWorkspaceIdError,
  NotMigratedError,
  UnknownOptionError,
} from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

const { pool, kysely } = await createTestDatabase()
const MINUTE_MS = 60_000
const SLOT_MS = 5 * MINUTE_MS

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, set_aside_usage, workspaces, source_usage CASCADE')
})

/** Stores a mark in each of the last minutes, from some minutes ago to others. Returns the ends of the first and the last. */
async function storeEachMinute(
  id: string,
  from: number,
  until: number,
  source = 'ssh',
): Promise<[Date, Date]> {
  const { rows } = await pool.query<{ first: Date; last: Date }>(
    `WITH stored AS (
      INSERT INTO pending_usage (period_end, workspace_id, source)
      SELECT date_trunc('milliseconds', now()) - n * interval '1 min', $1, $4 FROM generate_series($2::int, $3::int, -1) n
      RETURNING period_end
    ) SELECT min(period_end) AS first, max(period_end) AS last FROM stored`,
    [id, from, until, source],
  )
  return [rows[0]!.first, rows[0]!.last]
}

async function historyOf(id: string, options = {}): Promise<Record<string, SourceHistory>> {
  const { sources } = await usageHistory(pool, id, options)
  return Object.fromEntries(sources.map(source => [source.source, source]))
}

const period = (end: Date) => new Date(end.getTime() - 30_000)

test('the history tells the intervals of each source with exact ends, whether its marks are flushed or pending', async () => {
  const [id, other] = await createWorkspaces(pool, 2)
  const [first, last] = await storeEachMinute(id!, 180, 120)
  await storeEachMinute(other!, 100, 90)
  await flush(pool)
  const [again, now] = await storeEachMinute(id!, 30, 1)
  const { ssh, web } = await historyOf(id!)
  assert.equal(web, undefined)
  assert.equal(ssh!.intervals.length, 2)
  const [[one, two], history] = [ssh!.intervals, ssh!]
  // The first use of the day and the last one are exact.
  if (again.getUTCDate() === first.getUTCDate()) assert.deepEqual(one!.from, period(first))
  for (const [end, exact] of [
    [one!.until, last],
    [again, two!.from],
  ] as const)
    assert.ok(Math.abs(end.getTime() - exact.getTime()) < SLOT_MS, `${end} ${exact}`)
  assert.deepEqual(two!.until, now)
  assert.deepEqual([history.since, history.sinceAtLeast, history.counts], [two!.from, false, true])
  assert.ok(history.minutesUsed >= 90 && history.minutesUsed <= 105)
})

test('the history has the minutes and the intervals of the hours or the days that are asked for, and since when of all', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const [first] = await storeEachMinute(id!, 3 * 24 * 60, 0)
  await flush(pool, { batchSize: 10_000 })
  const { from, asOf, sources } = await usageHistory(kysely, id!, { hours: 2 })
  assert.equal(asOf.getTime() - from.getTime(), 120 * MINUTE_MS)
  const { since, intervals, minutesUsed } = sources[0]!
  assert.deepEqual(
    intervals.map(({ from }) => from),
    [from],
  )
  assert.ok(minutesUsed === 120 || minutesUsed === 125, `${minutesUsed}`)
  assert.deepEqual(since, period(first))
  const days = await usageHistory(pool, id!, { days: 2 })
  const midnight = Math.floor(asOf.getTime() / 86_400_000) * 86_400_000
  assert.equal(days.from.getTime(), midnight - 86_400_000)
  assert.equal((await usageHistory(pool, id!)).from.getTime() / 1_000 >= days.from.getTime() / 1_000, true)
})

test('since is null after a break, and a longer break that is asked for bridges it', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeEachMinute(id!, 90, 61)
  const [, last] = await storeEachMinute(id!, 50, 20)
  await flush(pool)
  const shortly = (await historyOf(id!)).ssh!
  assert.deepEqual([shortly.since, shortly.sinceAtLeast, shortly.intervals.length], [null, false, 2])
  const longer = (await historyOf(id!, { breakSeconds: 1_800 })).ssh!
  assert.equal(longer.intervals.length, 1)
  assert.deepEqual(longer.intervals[0]!.until, last)
  assert.deepEqual([longer.since, longer.sinceAtLeast], [longer.intervals[0]!.from, true])
})

test('a use that begins with the history of an older workspace is told as at least so long, that of another source is not', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeEachMinute(id!, 120, 0, 'cron')
  await storeEachMinute(id!, 60, 0, 'ssh')
  await flush(pool)
  const { cron, ssh } = await historyOf(id!)
  assert.deepEqual([cron!.sinceAtLeast, ssh!.sinceAtLeast], [true, false])
  const explained = await explainUsage(pool, id!)
  const told = Object.fromEntries(explained.sources.map(({ source, ...rest }) => [source, rest]))
  assert.deepEqual([told.cron?.since, told.ssh?.since], [cron!.since, ssh!.since])
  assert.deepEqual([told.cron?.sinceAtLeast, told.ssh?.sinceAtLeast], [true, false])
})

test('a use that begins where older days were removed is told as at least so long, also if another source has an older use', async () => {
  const [id] = await createWorkspaces(pool, 1)
  // The last day of each source stays.
  await pool.query(
    `INSERT INTO workspace_usage_day (workspace_id, source, last_used_at, day, first_used_at, slots)
    SELECT $1::uuid, source, day + interval '1 day', day, day, ~ 0::bit(288)
    FROM (
      SELECT 'old' AS source, (now() AT TIME ZONE 'UTC')::date - 100 AS day
      UNION ALL SELECT 'loop', (now() AT TIME ZONE 'UTC')::date - n FROM generate_series(0, 30) n
    ) AS days`,
    [id],
  )
  const { asOf } = await usageHistory(pool, id!)
  const { old, loop } = await historyOf(id!)
  const midnight = Math.floor(asOf.getTime() / 86_400_000) * 86_400_000
  assert.deepEqual([loop!.since, loop!.sinceAtLeast], [new Date(midnight - 30 * 86_400_000), true])
  assert.deepEqual([old!.since, old!.sinceAtLeast], [null, false])
})

test('a use that begins with the creation of the workspace is told as exactly so long', async () => {
  await using other = await createEmptyDatabase()
  await other.pool.query(
    'CREATE TABLE workspaces (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), last_used_at timestamptz, created_at timestamptz)',
  )
  await migrate({ connectionString: other.connectionString })
  const [id] = await createWorkspaces(other.pool, 1)
  await storeClosedMarks(other.pool, [id!], { agoMs: 60_000 })
  for (const [created, atLeast] of [
    ['2 min', false],
    ['1 day', true],
  ]) {
    await other.pool.query('UPDATE workspaces SET created_at = now() - $1::interval', [created])
    const { sources } = await usageHistory(other.pool, id!)
    assert.equal(sources[0]!.sinceAtLeast, atLeast, String(created))
  }
})

test('a use until a time ahead counts until now, and explain tells until when', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const { rows } = await pool.query(
    `SELECT mark_usage_until($1, date_trunc('milliseconds', now() + interval '2 h'), 'job') AS until`,
    [id],
  )
  await pool.query("UPDATE set_aside_usage SET used_from = now() - interval '1 h'")
  const { asOf, sources } = await usageHistory(pool, id!)
  const { since, intervals } = sources[0]!
  assert.equal(Math.round((asOf.getTime() - since!.getTime()) / MINUTE_MS), 60)
  assert.deepEqual(intervals.at(-1)?.until, asOf)
  const { usedUntil, sources: explained } = await explainUsage(pool, id!)
  assert.deepEqual([usedUntil, explained[0]!.usedUntil], [rows[0].until, rows[0].until])
})

test('a source that does not count is in the history, which says so', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!], { source: 'poller' })
  await flush(pool)
  await pool.query('UPDATE source_usage SET counts = false')
  const { poller } = await historyOf(id!)
  assert.deepEqual([poller!.counts, poller!.intervals.length], [false, 1])
  const { lastUsedAt, sources } = await explainUsage(pool, id!)
  assert.deepEqual([lastUsedAt, sources[0]!.counts], [null, false])
})

test('the history of a workspace that was never used, or does not exist, is empty', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const never = await usageHistory(pool, id!.toUpperCase())
  assert.deepEqual([never.workspaceId, never.exists, never.sources], [id, true, []])
  const missing = await usageHistory(pool, randomUUID())
  assert.deepEqual([missing.exists, missing.sources], [false, []])
})

test('usageHistory and explainUsage refuse what is not allowed', async () => {
  const id = randomUUID()
  await assert.rejects(usageHistory(pool, 'nope'), new InvalidWorkspaceIdError('nope'))
  await assert.rejects(usageHistory(pool, id, { breakSeconds: 299 }), InvalidOptionError)
  await assert.rejects(explainUsage(pool, id, { breakSeconds: 86_401 }), InvalidOptionError)
  await assert.rejects(usageHistory(pool, id, { days: 0 }), InvalidOptionError)
  await assert.rejects(usageHistory(pool, id, { days: 1, hours: 1 }), {
    message: 'hours is 1; allowed: an integer from 1 to 9600 hours, not together with days.',
  })
  await assert.rejects(usageHistory(pool, id, { day: 1 } as object), UnknownOptionError)
  const empty = await createEmptyDatabase()
  await assert.rejects(usageHistory(empty.pool, id), NotMigratedError)
})
