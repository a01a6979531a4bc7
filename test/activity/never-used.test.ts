import assert from 'node:assert/strict'
import { test } from 'node:test'
import { explainUsage } from '../../src/activity/explain.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import type { IdleWorkspace } from '../../src/activity/idle-row.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

const { pool } = await createTestDatabase()

const sentinels = [
  'infinity',
  '-infinity',
  '0001-01-01 00:00:00Z',
  '0044-03-15 00:00:00Z BC',
  '1900-01-01 00:00:00Z',
  '1970-01-01 00:00:00Z',
  '1970-01-01 00:00:00 America/Los_Angeles',
]
for (const never of sentinels) {
  test(`a last_used_at of '${never}' counts as never used, and a mark as the only use`, async () => {
    await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
    const [id] = await createWorkspaces(pool, 1)
    await pool.query('UPDATE workspaces SET last_used_at = $1', [never])
    const listed = async () => {
      const list: IdleWorkspace[] = []
      for await (const workspace of idleWorkspaces(pool, { idleForSeconds: 1 })) list.push(workspace)
      return list
    }
    const { lastUsedAt, exists } = await explainUsage(pool, id!)
    assert.deepEqual({ lastUsedAt, exists }, { lastUsedAt: null, exists: true })
    assert.deepEqual(
      (await listed()).map(({ workspaceId, lastUsedAt, idleSince }) => [workspaceId, lastUsedAt, idleSince]),
      [[id, null, null]],
    )

    const at = await storeClosedMarks(pool, [id!])
    assert.deepEqual((await explainUsage(pool, id!)).lastUsedAt, at)
    assert.deepEqual(
      (await listed()).map(({ lastUsedAt }) => lastUsedAt),
      [at],
    )
    await flush(pool)
    const { rows } = await pool.query('SELECT last_used_at FROM workspaces')
    assert.deepEqual(rows, [{ last_used_at: at }])
  })
}

const uses = {
  '1970-01-02 00:00:00Z': '1970-01-02T00:00:00.000Z',
  '9999-12-31 23:59:59.999999Z': '9999-12-31T23:59:59.999Z',
  '10000-01-01 00:00:00Z': '+010000-01-01T00:00:00.000Z',
  '294276-12-31 00:00:00Z': '+275760-09-13T00:00:00.000Z',
}
for (const [stored, read] of Object.entries(uses)) {
  test(`a last_used_at of '${stored}' is read as a use at ${read}`, async () => {
    await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
    const [id] = await createWorkspaces(pool, 1)
    await pool.query('UPDATE workspaces SET last_used_at = $1', [stored])
    assert.equal((await explainUsage(pool, id!)).lastUsedAt?.toISOString(), read)
  })
}
