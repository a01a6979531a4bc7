import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { idleForecast } from '../../src/activity/idle-forecast.ts'
import type { Queryable } from '../../src/database/connection.ts'
import { InvalidOptionError, NotMigratedError } from '../../src/errors.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

const { pool } = await createTestDatabase()
const DAY = 86_400

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('idleForecast counts who is due now, in a day and in a week, each with those of before', async () => {
  const ids = await createWorkspaces(pool, 8)
  const usedDaysAgo = [40, 30.1, 29.9, 29.1, 28.9, 23.1, 22.9]
  for (const [index, days] of usedDaysAgo.entries()) {
    await pool.query(`UPDATE workspaces SET last_used_at = now() - $2 * interval '1 d' WHERE id = $1`, [
      ids[index],
      days,
    ])
  }
  const { asOf, ...counts } = await idleForecast(pool, { idleForSeconds: 30 * DAY })
  assert.deepEqual(counts, { workspaces: 8, due: 2, dueInDay: 4, dueInWeek: 6, neverUsed: 1, inUse: 0 })
  assert.ok(Math.abs(asOf.getTime() - Date.now()) < 60_000)
})

test('idleForecast counts pending use, and as in use what was used in the last five minutes', async () => {
  const [pending, recent, before] = await createWorkspaces(pool, 3)
  await pool.query(`UPDATE workspaces SET last_used_at = now() - interval '40 d'`)
  await storeClosedMarks(pool, [pending!], { agoMs: 2_000 })
  await storeClosedMarks(pool, [recent!], { agoMs: 240_000 })
  await storeClosedMarks(pool, [before!], { agoMs: 360_000 })
  const { asOf, ...counts } = await idleForecast(pool, { idleForSeconds: 7 * DAY + 300 })
  assert.deepEqual(counts, { workspaces: 3, due: 0, dueInDay: 0, dueInWeek: 1, neverUsed: 0, inUse: 2 })
})

test('idleForecast is one statement, also of no workspaces', async () => {
  const statements: string[] = []
  const noting: Queryable = {
    query: (text, values) => {
      statements.push(text)
      return pool.query(text, values)
    },
  }
  const { asOf, ...counts } = await idleForecast(noting, { idleForSeconds: 1 })
  assert.deepEqual(counts, { workspaces: 0, due: 0, dueInDay: 0, dueInWeek: 0, neverUsed: 0, inUse: 0 })
  assert.equal(statements.length, 1)
})

test('idleForecast refuses options out of their range, and reports a database that is not migrated', async () => {
  for (const idleForSeconds of [0, -1, Number.NaN, 1e12]) {
    await assert.rejects(idleForecast(pool, { idleForSeconds }), InvalidOptionError)
  }
  const empty = await createEmptyDatabase()
  await assert.rejects(idleForecast(empty.pool, { idleForSeconds: 1 }), NotMigratedError)
})
