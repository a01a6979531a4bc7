import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { closeFlushGate } from '../support/flush-gate.ts'
import { until } from '../support/poll.ts'
import { startServer } from '../support/server.ts'
import { startLoad } from './load.ts'
import { assertTold, untilToldOnce } from './resets.ts'

/*
 * The backend of a flush ends in the middle of it, while a tracker and markUsage mark. If PostgreSQL ends it, nothing is
 * lost. If it is killed, PostgreSQL takes its shared memory for damaged and starts all processes anew: that is a crash.
 */

const server = await startServer({ synchronous_commit: 'on' })

test('a flush whose backend is terminated under load loses no mark, and the next flush consumes all', async t => {
  const database = await createTestDatabase({ on: server.connectionString })
  const { pool } = database
  const load = await startLoad(database)
  await load.untilFlushedAgain(pool)
  load.measureGapFromNow()
  const gate = await closeFlushGate(database)
  await gate.untilReached()
  await pool.query('SELECT pg_terminate_backend($1)', [await backendAtGate(database)])
  await until('the failure is logged', () => load.log.find('flush failed').length > 0)
  await gate.open()
  const seconds = await load.untilFlushedAgain(pool)
  const recovery = `recovered in ${seconds.toFixed(1)} s, tracker gap ${load.trackerGapSeconds.toFixed(1)} s`
  assert.equal(await load.judge(t, pool, { recovery }), 0)
  await assertTold(pool, load, 0)
})

test('a flush whose backend is killed under load is undone with all that was pending, which is told once, and all goes on by itself', async t => {
  const database = await createTestDatabase({ on: server.connectionString })
  const { pool } = database
  const load = await startLoad(database)
  await load.untilFlushedAgain(pool)
  load.measureGapFromNow()
  const gate = await closeFlushGate(database)
  await gate.untilReached()
  const flushed = await load.flushed(pool)
  // The gate opens with the crash, because its keeper ends as well.
  process.kill(await backendAtGate(database), 'SIGKILL')
  const seconds = await load.untilFlushedAgain(pool)
  const gap = load.trackerGapSeconds
  const completeSince = await untilToldOnce(pool, load, 'crash')
  const after = await load.flushed(pool)
  const undone = [...flushed].filter(([id, time]) => !(after.get(id)! >= time))
  assert.deepEqual(undone, [], 'what was flushed is still there')
  const recovery = `recovered in ${seconds.toFixed(1)} s, tracker gap ${gap.toFixed(1)} s`
  const lost = await load.judge(t, pool, { lostBefore: completeSince, recovery })
  assert.ok(lost > 0, 'the flush at the gate had marks')
  await assertTold(pool, load, 1)
})

async function backendAtGate({ pool }: TestDatabase): Promise<number> {
  const { rows } = await pool.query(
    `SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory' LIMIT 1`,
  )
  return rows[0].pid
}
