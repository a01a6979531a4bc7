import assert from 'node:assert/strict'
import { suite, type TestContext, test } from 'node:test'
import { usageCompleteSince } from '../../src/activity/complete-since.ts'
import { drain } from '../../src/flush/drain.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { POSTGRES_15_MISSING, startInstalledPostgres15 } from '../support/installed-postgres-15.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { startServer } from '../support/server.ts'
import { startStandby, untilCaughtUp } from '../support/standby.ts'
import { urlOf } from '../support/template.ts'

/* After `migrate --logged`, marks survive a crash and a promotion. */

/** What is committed must survive the crash. */
const SETTINGS = { synchronous_commit: 'on' }

const server18 = await startServer(SETTINGS)
const server15 = await startInstalledPostgres15(SETTINGS)
if (server15) atEnd(() => server15.stop())

for (const [major, server] of [
  [18, server18],
  [15, server15],
] as const) {
  suite(`logged marks on PostgreSQL ${major}`, { skip: server === null && POSTGRES_15_MISSING }, () => {
    test(`a crash under load loses no mark that was acknowledged if their tables are LOGGED, on PostgreSQL ${major}`, async t => {
      await crashesUnderLoad(server!, t)
    })
  })
}

async function crashesUnderLoad(server: typeof server18, t: TestContext): Promise<void> {
  const { pool, connectionString } = await createTestDatabase({ on: server.connectionString })
  await migrate({ connectionString, logged: true })
  await setPeriodLength(pool, 0.5)
  const ids = await createWorkspaces(pool, 20_000)
  const acknowledged: string[] = []
  let left = ids.length
  const mark = async () => {
    try {
      while (left > 0) {
        const id = ids[--left]!
        await markUsage(pool, id)
        acknowledged.push(id)
      }
    } catch {
      // The server is gone.
    }
  }
  const marking = Promise.all([mark(), mark(), mark(), mark()])
  let flushing = true
  const flushAll = (async () => {
    while (flushing) await drain(pool).catch(() => {})
  })()
  await until('marks are acknowledged', () => acknowledged.length > 500)
  const crashed = performance.now()
  await server.crash()
  await marking
  flushing = false
  await flushAll
  await until('the server answers', () => pool.query('SELECT').catch(() => false))

  await until('all marks are flushed', async () => {
    await drain(pool)
    return (await pendingCount(pool)) === 0
  })
  const recoveryMs = Math.round(performance.now() - crashed)
  const lost = (await lastUsedAt(pool, acknowledged)).filter(time => time === null).length
  t.diagnostic(
    `marked ${acknowledged.length}, survived ${acknowledged.length - lost}, lost ${lost}; recovered in ${recoveryMs} ms`,
  )
  assert.equal(lost, 0)
  assert.ok(acknowledged.length > 500 && acknowledged.length < ids.length)
  assert.equal(await usageCompleteSince(pool), null, 'nothing was lost, so nothing is told')
}

test('marks in LOGGED tables are pending on a promoted standby, and are flushed there', async t => {
  const database = await createTestDatabase({ on: server18.connectionString })
  await migrate({ connectionString: database.connectionString, logged: true })
  const ids = await createWorkspaces(database.pool, 100)
  const standby = await startStandby(server18)
  const usedAt = await storeClosedMarks(database.pool, ids)
  const promoted = heardPool({ connectionString: urlOf(standby.connectionString, database.name), max: 2 })
  atEnd(() => promoted.end())
  await untilCaughtUp(database.pool, promoted)
  await promoted.query('SELECT pg_promote()')
  const result = await drain(promoted)
  assert.deepEqual([result.flushed, result.updated, result.reset], [100, 100, null])
  assert.deepEqual(await lastUsedAt(promoted, ids), Array(100).fill(usedAt))
  assert.equal(await usageCompleteSince(promoted), null)
  t.diagnostic(`marked 100, survived ${result.flushed}, lost ${100 - result.flushed}`)
})
