import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createTestDatabase } from '../support/database.ts'
import { startServer } from '../support/server.ts'
import { freeze } from '../support/server-processes.ts'
import { startLoad } from './load.ts'
import { assertTold } from './resets.ts'

/**
 * All processes of a server stand still under load. The system still accepts connections, and nobody answers. Then they
 * go on, with statements that their clients have given up.
 */
export async function standsStill(t: TestContext, seconds: number): Promise<void> {
  const server = await startServer({ synchronous_commit: 'on' })
  const database = await createTestDatabase({ on: server.connectionString })
  const { pool } = database
  const load = await startLoad(database)
  await load.untilFlushedAgain(pool)
  load.measureGapFromNow()
  const goOn = freeze(server)
  try {
    await delay(seconds * 1_000)
  } finally {
    goOn()
  }
  const recovered = await load.untilFlushedAgain(pool)
  const recovery = `recovered in ${recovered.toFixed(1)} s, tracker gap ${load.trackerGapSeconds.toFixed(1)} s`
  assert.equal(await load.judge(t, pool, { recovery }), 0)
  const { log, workers } = load
  assert.ok(log.find('the database is out of reach').length >= workers.length)
  assert.equal(
    log.find('the database is out of reach').length,
    log.find('the database is within reach again').length,
  )
  await assertTold(pool, load, 0)
  const { rows } = await pool.query(
    "SELECT application_name FROM pg_stat_activity WHERE application_name IN ('load', 'workspace-usage worker')",
  )
  assert.deepEqual(rows, [], 'no connection of a marker or worker is left')
}
