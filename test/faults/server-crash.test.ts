import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { EmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { createTestDatabase } from '../support/database.ts'
import { startServer } from '../support/server.ts'
import { killPostmaster } from '../support/server-processes.ts'
import { startLoad } from './load.ts'
import { assertTold, untilToldOnce } from './resets.ts'

/*
 * The server ends while a tracker and markUsage mark, and two workers flush. They go on by themselves. A crash takes
 * the marks that were not flushed, and this is told once. What was flushed is never lost.
 */

// What was committed must survive a crash of the server, but not one of the machine.
const server = await startServer({ synchronous_commit: 'on' })

const CRASHES: Record<string, (server: EmbeddedPostgres) => Promise<unknown>> = {
  'a SIGKILL of the postmaster': killPostmaster,
  'an immediate shutdown': ({ shutDown }) => shutDown.call(server, 'immediate'),
}
for (const [crash, bringAbout] of Object.entries(CRASHES)) {
  test(`${crash} under load loses only marks that were not flushed, which is told once, and all goes on by itself`, async t => {
    await crashes(t, bringAbout)
  })
}

test('a fast restart under load loses no mark, and nothing is told as lost', async t => {
  const database = await createTestDatabase({ on: server.connectionString })
  const { pool } = database
  const load = await startLoad(database)
  await load.untilFlushedAgain(pool)
  load.measureGapFromNow()
  await server.restart()
  const seconds = await load.untilFlushedAgain(pool)
  const gap = load.trackerGapSeconds
  const recovery = `recovered in ${seconds.toFixed(1)} s, tracker gap ${gap.toFixed(1)} s`
  assert.equal(await load.judge(t, pool, { recovery }), 0)
  await assertTold(pool, load, 0)
})

async function crashes(
  t: TestContext,
  bringAbout: (server: EmbeddedPostgres) => Promise<unknown>,
): Promise<void> {
  const database = await createTestDatabase({ on: server.connectionString })
  const { pool } = database
  const load = await startLoad(database)
  await load.untilFlushedAgain(pool)
  load.measureGapFromNow()
  const flushed = await load.flushed(pool)
  await bringAbout(server)
  await server.startUp()
  const seconds = await load.untilFlushedAgain(pool, 90_000)
  const gap = load.trackerGapSeconds
  const completeSince = await untilToldOnce(pool, load, 'crash')
  const after = await load.flushed(pool)
  const undone = [...flushed].filter(([id, time]) => !(after.get(id)! >= time))
  assert.deepEqual(undone, [], 'what was flushed is still there')
  const recovery = `recovered in ${seconds.toFixed(1)} s, tracker gap ${gap.toFixed(1)} s`
  await load.judge(t, pool, { lostBefore: completeSince, recovery })
  await assertTold(pool, load, 1)
}
