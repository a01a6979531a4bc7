/*
 * Promise 6: Usage is visible at once. The views join pending marks with what was flushed.
 */

import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { explainUsage } from '../../src/activity/explain.ts'
import { usageHistory } from '../../src/activity/history.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { activityOf } from '../support/activity.ts'
import { createTestDatabase } from '../support/database.ts'
import { CENTURY, setPeriodLength } from '../support/period.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'

const database = await createTestDatabase()
const { pool } = database
// The open period must not end in the middle of a test.
await setPeriodLength(pool, CENTURY)

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('every read shows a mark as soon as it is stored, without any flush', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await pool.query(`UPDATE workspaces SET last_used_at = now() - interval '1 day'`)
  const idle = async () => (await idleWorkspaces(pool, { idleForSeconds: 3_600 }).next()).value?.workspaceId
  assert.equal(await idle(), id)
  await markUsage(pool, id!, { source: 'ssh' })
  assert.equal(await idle(), undefined)
  const { lastUsedAt, asOf, sources } = await explainUsage(pool, id!)
  assert.deepEqual(lastUsedAt, asOf)
  assert.deepEqual(
    sources.map(({ source, lastUsedAt, pending }) => ({ source, lastUsedAt, pending })),
    [{ source: 'ssh', lastUsedAt: asOf, pending: true }],
  )
  const history = await usageHistory(pool, id!)
  assert.deepEqual(history.sources[0]?.intervals.at(-1)?.until, history.asOf)
  for (const view of ['workspace_activity', 'workspace_activity_by_source']) {
    const { rows } = await pool.query(
      `SELECT workspace_id, source, last_used_at = statement_timestamp() AS now, pending FROM ${view}`,
    )
    assert.deepEqual(rows, [{ workspace_id: id, source: 'ssh', now: true, pending: true }], view)
  }
})

test('workspace_activity shows use in the open period as of now', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!], { agoMs: 5_000 })
  await flush(pool)
  await storeClosedMarks(pool, [id!], { agoMs: -3_600_000, source: 'vscode' })
  const { rows } = await pool.query(
    'SELECT last_used_at = statement_timestamp() AS now, source, pending FROM workspace_activity',
  )
  assert.deepEqual(rows, [{ now: true, source: 'vscode', pending: true }])
})

test('workspace_activity shows the same use as pending before and during its flush, and as flushed after', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const closed = await storeClosedMarks(pool, [id!], { source: 'ssh' })
  const pending = { last_used_at: closed, source: 'ssh', pending: true }
  assert.deepEqual(await activityOf(pool, id!), pending)
  await using flusher = await openTransaction(database)
  assert.equal((await flush(flusher.client)).updated, 1)
  assert.deepEqual(await activityOf(pool, id!), pending)
  await flusher.client.query('COMMIT')
  assert.deepEqual(await activityOf(pool, id!), { ...pending, pending: false })
})
