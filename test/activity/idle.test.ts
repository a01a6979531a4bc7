import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import type { IdleOptions } from '../../src/activity/idle-options.ts'
import type { IdleWorkspace } from '../../src/activity/idle-row.ts'
import type { Queryable } from '../../src/database/connection.ts'
import { InvalidOptionError, NotMigratedError } from '../../src/errors.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

const { pool, kysely } = await createTestDatabase()

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('idleWorkspaces lists the longest idle first and the never used last, and no workspace in use', async () => {
  const [idle, longest, used, marked, never] = await createWorkspaces(pool, 5)
  await setUsed(idle!, 3_600)
  await setUsed(longest!, 7_200)
  await setUsed(used!, 60)
  await setUsed(marked!, 7_200)
  await storeClosedMarks(pool, [marked!])
  assert.deepEqual(await ids(pool, { idleForSeconds: 3_600 }), [longest, idle, never])
  assert.deepEqual(await ids(pool, { idleForSeconds: 3_600, neverUsed: false }), [longest, idle])
  assert.deepEqual(await ids(kysely, { idleForSeconds: 7_300 }), [never])
})

test('idleWorkspaces counts pending use from the end of its period, however long the mark is pending', async () => {
  const [once, again] = await createWorkspaces(pool, 2)
  await storeClosedMarks(pool, [once!, again!], { agoMs: 7_200_000 })
  await storeClosedMarks(pool, [again!], { agoMs: 60_000 })
  assert.deepEqual(await ids(pool, { idleForSeconds: 3_600 }), [once])
})

test('idleWorkspaces returns since when a workspace is idle, by the clock of the database', async () => {
  const [inside, outside] = await createWorkspaces(pool, 2)
  await setUsed(inside!, 81)
  await setUsed(outside!, 60)
  const listed = await all(pool, { idleForSeconds: 80 })
  assert.deepEqual(
    listed.map(({ workspaceId }) => workspaceId),
    [inside],
  )
  assert.ok(listed[0]!.idleSeconds! > 80.9 && listed[0]!.idleSeconds! < 100)
  const { rows } = await pool.query(
    `SELECT date_trunc('milliseconds', last_used_at) AS at FROM workspaces WHERE id = $1`,
    [inside],
  )
  assert.deepEqual(listed[0]!.lastUsedAt, rows[0].at)
})

test('the pages of idleWorkspaces have no gap and no repeat, even among equal times and times a microsecond apart', async () => {
  const created = await createWorkspaces(pool, 100)
  await pool.query(
    `UPDATE workspaces
    SET last_used_at = timestamptz '2020-01-01 00:00:00.123456Z' + n / 2 * interval '1 us'
    FROM unnest($1::uuid[]) WITH ORDINALITY AS made (made_id, n) WHERE id = made_id AND n <= 60`,
    [created],
  )
  for (const pageSize of [1, 7, 30, 60, 100, 1_000]) {
    assert.deepEqual(await ids(pool, { idleForSeconds: 1, pageSize }), created, `pages of ${pageSize}`)
  }
  for (const limit of [1, 59, 60, 61, 100, 1_000]) {
    assert.deepEqual(await ids(pool, { idleForSeconds: 1, pageSize: 30, limit }), created.slice(0, limit))
  }
})

test('the pages of idleWorkspaces have no gap and no repeat, whatever the format of times in the session', async () => {
  const created = await createWorkspaces(pool, 5)
  await pool.query(`UPDATE workspaces SET last_used_at = '2026-02-03 04:05:06Z'`)
  const client = await pool.connect()
  try {
    await client.query(
      `SET DateStyle = 'SQL, DMY'; SET TimeZone = 'America/St_Johns'; SET extra_float_digits = 0`,
    )
    const listed = await all(client, { idleForSeconds: 1, pageSize: 2 })
    const at = new Date('2026-02-03T04:05:06Z')
    assert.deepEqual(
      listed.map(({ workspaceId, lastUsedAt }) => [workspaceId, lastUsedAt]),
      created.map(id => [id, at]),
    )
  } finally {
    client.release(true)
  }
})

test("idleWorkspaces lists a workspace with last_used_at '-infinity', which some hosts write, as never used", async () => {
  await createWorkspaces(pool, 2)
  await pool.query(`UPDATE workspaces SET last_used_at = '-infinity'`)
  const listed = await all(pool, { idleForSeconds: 1, pageSize: 1 })
  assert.deepEqual(
    listed.map(({ lastUsedAt, idleSeconds }) => [lastUsedAt, idleSeconds]),
    [
      [null, null],
      [null, null],
    ],
  )
})

test('idleWorkspaces reads a page only when the caller asks for it, and holds no connection between pages', async () => {
  await createWorkspaces(pool, 10)
  const statements: string[] = []
  const noting: Queryable = {
    query: (text, values) => {
      statements.push(text)
      return pool.query(text, values)
    },
  }
  const listing = idleWorkspaces(noting, { idleForSeconds: 1, pageSize: 4 })
  assert.equal(statements.length, 0)
  for (let n = 0; n < 4; n++) await listing.next()
  // Two statements: the clock and the first page.
  assert.equal(statements.length, 2)
  await listing.return(undefined)
  assert.equal(statements.length, 2)
})

test('idleWorkspaces does not list a workspace that is marked before its page is read', async () => {
  const created = await createWorkspaces(pool, 4)
  await pool.query(`UPDATE workspaces SET last_used_at = now() - interval '1 h'`)
  const listed: string[] = []
  for await (const { workspaceId } of idleWorkspaces(pool, { idleForSeconds: 60, pageSize: 2 })) {
    listed.push(workspaceId)
    if (listed.length === 1) await storeClosedMarks(pool, [created[3]!])
  }
  assert.deepEqual(listed, created.slice(0, 3))
})

test('idleWorkspaces refuses options out of their range before anything is sent', () => {
  const refused = (options: IdleOptions, option: string) =>
    assert.throws(
      () => idleWorkspaces(pool, options),
      (error: InvalidOptionError) => error instanceof InvalidOptionError && error.option === option,
    )
  for (const idleForSeconds of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e12]) {
    refused({ idleForSeconds }, 'idleForSeconds')
  }
  for (const limit of [0, 1.5, Number.NaN]) refused({ idleForSeconds: 1, limit }, 'limit')
  for (const pageSize of [0, 1.5, 1_000_001]) refused({ idleForSeconds: 1, pageSize }, 'pageSize')
})

test('idleWorkspaces reports a database that is not migrated', async () => {
  const empty = await createEmptyDatabase()
  await assert.rejects(idleWorkspaces(empty.pool, { idleForSeconds: 1 }).next(), NotMigratedError)
})

async function setUsed(id: string, secondsAgo: number): Promise<void> {
  await pool.query(`UPDATE workspaces SET last_used_at = now() - $2 * interval '1 s' WHERE id = $1`, [
    id,
    secondsAgo,
  ])
}

async function all(
  connection: Parameters<typeof idleWorkspaces>[0],
  options: IdleOptions,
): Promise<IdleWorkspace[]> {
  const listed: IdleWorkspace[] = []
  for await (const workspace of idleWorkspaces(connection, options)) {
    listed.push(workspace)
    assert.ok(listed.length <= 1_000, 'it comes to no end')
  }
  return listed
}

async function ids(
  connection: Parameters<typeof idleWorkspaces>[0],
  options: IdleOptions,
): Promise<string[]> {
  return (await all(connection, options)).map(({ workspaceId }) => workspaceId)
}
