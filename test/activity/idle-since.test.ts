import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { idleForecast } from '../../src/activity/idle-forecast.ts'
import type { IdleOptions } from '../../src/activity/idle-options.ts'
import type { IdleWorkspace } from '../../src/activity/idle-row.ts'
import { NotMigratedError } from '../../src/errors.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { migrateDown } from '../../src/schema/migrate-down.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
import { storeClosedMarks } from '../support/seed.ts'

const { pool, connectionString } = await createEmptyDatabase()
await pool.query(`CREATE TABLE workspaces (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), last_used_at timestamptz, created_at timestamptz
)`)
await migrate({ connectionString })
const HOUR = 3_600

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, set_aside_usage, workspaces CASCADE')
})

test('a workspace that was never used is idle since its creation, and sorts with the others by that', async () => {
  const young = await create({ createdHoursAgo: 1 })
  const middle = await create({ createdHoursAgo: 60 })
  const used = await create({ createdHoursAgo: 90, usedHoursAgo: 50 })
  const unknown = await create({})
  const marked = await create({ createdHoursAgo: 70 })
  await storeClosedMarks(pool, [marked])
  for (const pageSize of [1, 2, 100]) {
    const listed = await list({ idleForSeconds: 24 * HOUR, pageSize })
    assert.deepEqual(idsOf(listed), [middle, used, unknown])
    const [first, second, last] = listed as [IdleWorkspace, IdleWorkspace, IdleWorkspace]
    assert.deepEqual([first.lastUsedAt, first.idleSince], [null, first.createdAt])
    assert.equal(Math.round(first.idleSeconds! / HOUR), 60)
    assert.equal(Math.round(first.leftSeconds! / HOUR), -36)
    assert.deepEqual(second.idleSince, second.lastUsedAt)
    assert.equal(second.lastUsedAt!.getTime() - second.createdAt!.getTime(), 40 * HOUR * 1_000)
    assert.deepEqual(last, {
      workspaceId: unknown,
      lastUsedAt: null,
      createdAt: null,
      usedUntil: null,
      idleSince: null,
      idleSeconds: null,
      dueAt: null,
      leftSeconds: null,
    })
  }
  assert.deepEqual(idsOf(await list({ idleForSeconds: 24 * HOUR, neverUsed: false })), [used])
  assert.deepEqual(idsOf(await list({ idleForSeconds: 24 * HOUR, withinSeconds: 23.5 * HOUR })), [
    middle,
    used,
    young,
    unknown,
  ])
})

for (const never of ['infinity', '-infinity', '0001-01-01Z', '1970-01-01Z', '1970-01-01 23:59:59Z']) {
  test(`a created_at of '${never}' is not known, and a last_used_at of it is never used`, async () => {
    const unknown = await create({})
    const created = await create({ createdHoursAgo: 2 })
    await pool.query('UPDATE workspaces SET last_used_at = $1', [never])
    await pool.query('UPDATE workspaces SET created_at = $1 WHERE id = $2', [never, unknown])
    const listed = await list({ idleForSeconds: HOUR })
    assert.deepEqual(idsOf(listed), [created, unknown])
    assert.deepEqual(
      listed.map(({ lastUsedAt }) => lastUsedAt),
      [null, null],
    )
    assert.deepEqual([listed[1]!.createdAt, listed[1]!.idleSince], [null, null])
    assert.deepEqual(listed[0]!.createdAt, listed[0]!.idleSince)
    const { asOf, ...counts } = await idleForecast(pool, { idleForSeconds: HOUR })
    assert.deepEqual(counts, {
      workspaces: 2,
      due: 1,
      dueInDay: 1,
      dueInWeek: 1,
      neverUsed: 1,
      inUse: 0,
    })
  })
}

test('a created_at ahead is not idle yet, and one of 1970-01-02 is', async () => {
  await create({ createdHoursAgo: -1 })
  const old = await create({})
  await pool.query(`UPDATE workspaces SET created_at = '1970-01-02Z' WHERE id = $1`, [old])
  const listed = await list({ idleForSeconds: 1 })
  assert.deepEqual(idsOf(listed), [old])
  assert.equal(listed[0]!.idleSince?.toISOString(), '1970-01-02T00:00:00.000Z')
})

test('a workspace in use until a time ahead is due from that time on, and idle for 0 seconds', async () => {
  const busy = await create({ usedHoursAgo: 50 })
  const other = await create({ usedHoursAgo: 40 })
  const { rows } = await pool.query(
    `SELECT mark_usage_until($1, now() + interval '2 h', 'job')::text, date_trunc('milliseconds', now()) AS now`,
    [busy],
  )
  assert.deepEqual(idsOf(await list({ idleForSeconds: HOUR })), [other])
  assert.deepEqual(idsOf(await list({ idleForSeconds: HOUR, withinSeconds: 2.9 * HOUR })), [other])
  const listed = await list({ idleForSeconds: HOUR, withinSeconds: 3.1 * HOUR })
  assert.deepEqual(idsOf(listed), [other, busy])
  const { usedUntil, idleSince, idleSeconds, leftSeconds, dueAt } = listed[1]!
  assert.equal(usedUntil!.getTime(), rows[0].now.getTime() + 2 * HOUR * 1_000)
  assert.deepEqual([idleSince, idleSeconds], [usedUntil, 0])
  assert.equal(dueAt!.getTime() - usedUntil!.getTime(), HOUR * 1_000)
  assert.ok(Math.abs(leftSeconds! - 3 * HOUR) < 60, String(leftSeconds))
  const { asOf, ...counts } = await idleForecast(pool, { idleForSeconds: HOUR })
  assert.deepEqual(counts, { workspaces: 2, due: 1, dueInDay: 2, dueInWeek: 2, neverUsed: 0, inUse: 1 })
})

test('a workspace that was never used before and is in use until a time ahead is listed as used', async () => {
  const busy = await create({})
  await pool.query(`SELECT mark_usage_until($1, now() + interval '1 h')`, [busy])
  const listed = await list({ idleForSeconds: HOUR, withinSeconds: 24 * HOUR, neverUsed: false })
  assert.deepEqual(idsOf(listed), [busy])
  assert.notEqual(listed[0]!.lastUsedAt, null)
})

test('idleWorkspaces and idleForecast report the views of an older version', async () => {
  const older = await createTestDatabase()
  while ((await migrateDown({ connectionString: older.connectionString })) !== '0012_usage_history') {}
  await assert.rejects(list({ idleForSeconds: 1 }, older.pool), NotMigratedError)
  await assert.rejects(idleForecast(older.pool, { idleForSeconds: 1 }), NotMigratedError)
})

async function create({
  createdHoursAgo,
  usedHoursAgo,
}: {
  createdHoursAgo?: number
  usedHoursAgo?: number
}): Promise<string> {
  const { rows } = await pool.query(
    `INSERT INTO workspaces (created_at, last_used_at)
    SELECT now() - $1::float8 * interval '1 h', now() - $2::float8 * interval '1 h' RETURNING id`,
    [createdHoursAgo, usedHoursAgo],
  )
  return rows[0].id
}

async function list(options: IdleOptions, connection = pool): Promise<IdleWorkspace[]> {
  const listed: IdleWorkspace[] = []
  for await (const workspace of idleWorkspaces(connection, options)) {
    listed.push(workspace)
    assert.ok(listed.length <= 100, 'it comes to no end')
  }
  return listed
}

function idsOf(workspaces: IdleWorkspace[]): string[] {
  return workspaces.map(({ workspaceId }) => workspaceId)
}
