import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { reapIdle } from '../../src/reaper/reap-idle.ts'
import { stopIfStillIdle } from '../../src/reaper/stop-if-still-idle.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase } from '../support/database.ts'
import { POSTGRES_15_MISSING, startInstalledPostgres15 } from '../support/installed-postgres-15.ts'
import { CENTURY, setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces } from '../support/seed.ts'
import { startServer } from '../support/server.ts'

/** What is committed must survive the crash. */
const SETTINGS = { synchronous_commit: 'on' }
const IDLE_SECONDS = 4

const server15 = await startInstalledPostgres15(SETTINGS)
if (server15) atEnd(() => server15.stop())

for (const major of [18, 15] as const) {
  const server = major === 18 ? await startServer(SETTINGS) : server15
  suite(`the stop of idle workspaces on PostgreSQL ${major}`, {
    skip: server === null && POSTGRES_15_MISSING,
  }, () => {
    if (server !== null) stopsOn(server, major)
  })
}

function stopsOn(server: NonNullable<typeof server15>, major: number): void {
  test(`after a crash that lost its marks, a workspace in use is never stopped, and one that is idle is stopped after the grace, on PostgreSQL ${major}`, async t => {
    const { pool } = await createTestDatabase({ on: server.connectionString })
    await setPeriodLength(pool, CENTURY)
    const [used, idle] = await createWorkspaces(pool, 2)
    await pool.query(`UPDATE workspaces SET last_used_at = now() - interval '1 day'`)
    const rules = { idleForSeconds: IDLE_SECONDS, stop: () => {}, stopTimeoutSeconds: 10, again: false }
    const outcomeOf = async (id: string) => (await stopIfStillIdle(pool, id, rules)).outcome
    const reap = async () => {
      const ids: string[] = []
      const result = await reapIdle({ pool, idleFor: IDLE_SECONDS, stop: (_client, id) => ids.push(id) })
      return { ids, refused: result.refused.map(({ reason }) => reason) }
    }
    const refused = { ids: [], refused: ['incomplete'] }
    await markUsage(pool, used!)
    assert.equal(await outcomeOf(used!), 'in-use')

    await server.crash()
    await until('the server answers', () => pool.query('SELECT').catch(() => false))
    const crashed = Date.now()
    const { rows } = await pool.query(
      `SELECT workspace_id FROM workspace_activity WHERE last_used_at < now() - interval '4 s' ORDER BY 1`,
    )
    assert.equal(rows.length, 2, 'the one in use looks idle')
    // Before a flush has noticed the loss, and after that.
    assert.deepEqual(await reap(), refused)
    const { reset } = await flush(pool)
    assert.equal(reset?.reason, 'crash')
    assert.deepEqual(await reap(), refused)
    for (const id of [used!, idle!]) assert.equal(await outcomeOf(id), 'incomplete')

    await markUsage(pool, used!)
    let stoppedAt = 0
    const stopped = await until(
      'the grace is over',
      async () => {
        stoppedAt = Date.now()
        return (await reap()).ids
      },
      { accept: ids => ids.length > 0 },
    )
    assert.deepEqual(stopped, [idle])
    const graceMs = Date.now() - reset.completeSince.getTime()
    assert.ok(graceMs >= IDLE_SECONDS * 1_000, `${graceMs} ms`)
    t.diagnostic(
      `marked 1, survived 0, lost 1; the idle one was stopped ${stoppedAt - crashed} ms after the crash`,
    )
  })
}
