import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import type { IdleOptions } from '../../src/activity/idle-options.ts'
import type { IdleWorkspace } from '../../src/activity/idle-row.ts'
import { InvalidOptionError } from '../../src/errors.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

const { pool } = await createTestDatabase()
const HOUR = 3_600

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('idleWorkspaces with withinSeconds lists who will be due, with the time left and when', async () => {
  const [due, soon, later] = await createWorkspaces(pool, 3)
  await setUsed(due!, 11 * HOUR)
  await setUsed(soon!, 8 * HOUR)
  await setUsed(later!, 6 * HOUR)
  const listed = await list({ idleForSeconds: 10 * HOUR, withinSeconds: 3 * HOUR })
  assert.deepEqual(
    listed.map(({ workspaceId }) => workspaceId),
    [due, soon],
  )
  const [first, second] = listed as [IdleWorkspace, IdleWorkspace]
  assert.ok(Math.abs(first.leftSeconds! + HOUR) < 60, String(first.leftSeconds))
  assert.ok(Math.abs(second.leftSeconds! - 2 * HOUR) < 60, String(second.leftSeconds))
  for (const { idleSince, dueAt, lastUsedAt } of [first, second]) {
    assert.deepEqual(idleSince, lastUsedAt)
    assert.equal(dueAt!.getTime() - idleSince!.getTime(), 10 * HOUR * 1_000)
  }
})

test('idleWorkspaces lists who is in use if that will be due within the time, as idle for 0 seconds', async () => {
  const [used, old] = await createWorkspaces(pool, 2)
  await setUsed(old!, 24 * HOUR)
  await pool.query('INSERT INTO pending_usage (workspace_id) VALUES ($1)', [used])
  const listed = await list({ idleForSeconds: HOUR, withinSeconds: HOUR + 60 })
  assert.deepEqual(
    listed.map(({ workspaceId, idleSeconds }) => [workspaceId, idleSeconds === 0]),
    [
      [old, false],
      [used, true],
    ],
  )
  assert.deepEqual((await list({ idleForSeconds: HOUR, withinSeconds: HOUR - 60 })).length, 1)
})

test('no workspace comes twice that is used while the list of who will be due is read', async () => {
  const created = await createWorkspaces(pool, 6)
  for (const [index, id] of created.entries()) await setUsed(id, (10 - index) * HOUR)
  const listed: string[] = []
  const options = { idleForSeconds: HOUR, withinSeconds: 2 * HOUR, pageSize: 2, limit: 6 }
  for await (const { workspaceId } of idleWorkspaces(pool, options)) {
    listed.push(workspaceId)
    if (listed.length === 2) await storeClosedMarks(pool, [created[0]!, created[4]!], { agoMs: 0 })
  }
  assert.deepEqual(
    listed,
    [0, 1, 2, 3, 5, 4].map(index => created[index]),
  )
})

test('idleWorkspaces refuses a withinSeconds that is no time, and takes 0 as none', async () => {
  for (const withinSeconds of [-1, Number.NaN, Number.POSITIVE_INFINITY, 3_162_240_001, '1' as never]) {
    assert.throws(
      () => idleWorkspaces(pool, { idleForSeconds: 1, withinSeconds }),
      (error: InvalidOptionError) => error instanceof InvalidOptionError && error.option === 'withinSeconds',
    )
  }
  const [id] = await createWorkspaces(pool, 1)
  await setUsed(id!, HOUR)
  assert.equal((await list({ idleForSeconds: HOUR + 60, withinSeconds: 0 })).length, 0)
  assert.equal((await list({ idleForSeconds: 3_162_240_000, withinSeconds: 3_162_240_000 })).length, 1)
})

async function setUsed(id: string, secondsAgo: number): Promise<void> {
  await pool.query(`UPDATE workspaces SET last_used_at = now() - $2 * interval '1 s' WHERE id = $1`, [
    id,
    secondsAgo,
  ])
}

async function list(options: Omit<IdleOptions, 'neverUsed'>): Promise<IdleWorkspace[]> {
  const listed: IdleWorkspace[] = []
  for await (const workspace of idleWorkspaces(pool, { ...options, neverUsed: false })) listed.push(workspace)
  return listed
}
