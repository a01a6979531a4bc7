import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, refused_usage, workspaces CASCADE')
})

test('draft', async () => {
  await pool.query(`ALTER TABLE workspaces ADD COLUMN name text NOT NULL DEFAULT 'x'`)
  const ids = await createWorkspaces(pool, 4)
  await pool.query(`UPDATE workspaces SET name = '' WHERE id = $1`, [ids[2]])
  await pool.query(`ALTER TABLE workspaces ADD CONSTRAINT named CHECK (name <> '') NOT VALID`)
  await storeClosedMarks(pool, ids)
  await storeClosedMarks(pool, [randomUUID()])
  console.log(await flush(pool))
  console.log(await lastUsedAt(pool, ids), await pendingCount(pool))
  console.log(await flush(pool))
  await pool.query('ALTER TABLE workspaces DROP CONSTRAINT named')
  console.log(await flush(pool))
  await pool.query('UPDATE refused_usage SET next_attempt_at = now()')
  console.log(await flush(pool))
  console.log(await lastUsedAt(pool, ids), await pendingCount(pool))
})
