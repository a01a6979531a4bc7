import assert from 'node:assert/strict'
import { test } from 'node:test'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { idleForecast } from '../../src/activity/idle-forecast.ts'
import { executeWithoutJit } from '../../src/database/without-jit.ts'
import { createTestDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { createWorkspaces } from '../support/seed.ts'

const database = await createTestDatabase()
await database.pool.query(`ALTER DATABASE ${database.name} SET jit = on`)
const pool = heardPool({ connectionString: database.connectionString, max: 1 })
const SHOW = { sql: `SELECT current_setting('jit') AS jit`, parameters: [] }

test('a statement without JIT leaves the setting of the session as it was', async () => {
  const jit = async (connection: Parameters<typeof executeWithoutJit>[0]) =>
    (await executeWithoutJit<{ jit: string }>(connection, SHOW)).rows[0]!.jit
  assert.equal(await jit(pool), 'off')
  assert.equal((await pool.query(SHOW.sql)).rows[0].jit, 'on')
  await assert.rejects(executeWithoutJit(pool, { sql: 'SELECT 1 / 0', parameters: [] }), { code: '22012' })
  assert.equal((await pool.query(SHOW.sql)).rows[0].jit, 'on')
  assert.equal(await jit(database.kysely), 'off')
  const client = await database.connect()
  assert.equal(await jit(client), 'on')
})

test('pages and counts of idle workspaces are read without JIT', async () => {
  await createWorkspaces(pool, 3)
  const { rows } = await pool.query(`SELECT pg_get_viewdef('workspace_activity') AS query`)
  await pool.query(`CREATE OR REPLACE VIEW workspace_activity AS
    SELECT * FROM (${rows[0].query.replace(/;$/, '')}) activity WHERE current_setting('jit') = 'off'`)
  assert.equal((await pool.query('SELECT FROM workspace_activity')).rowCount, 0)
  let listed = 0
  for await (const _ of idleWorkspaces(pool, { idleForSeconds: 1, pageSize: 1 })) listed += 1
  assert.equal(listed, 3)
  assert.equal((await idleForecast(pool, { idleForSeconds: 1 })).workspaces, 3)
  await pool.end()
})
