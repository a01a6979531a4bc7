import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces, pendingCount } from '../support/seed.ts'

/* A transaction marks, and commits only after its period was flushed for everybody else. */

const PERIODS = 4

test('marks of a transaction that commits after their period was flushed are taken by the next flush', async t => {
  await commitsLate(t, await createTestDatabase())
})

test('marks of a transaction that commits after their period was flushed are taken by the next flush on PostgreSQL 15', async t => {
  await onPostgres15(t, database => commitsLate(t, database))
})

async function commitsLate(t: TestContext, database: TestDatabase): Promise<void> {
  const { pool } = database
  await setPeriodLength(pool, 0.2)
  const ids = await createWorkspaces(pool, 30)
  const [late, other, undone] = [ids.slice(0, 10), ids.slice(10, 20), ids.slice(20)]
  const [host, rolledBack] = await Promise.all([database.connect(), database.connect()])
  await host.query('BEGIN')
  await rolledBack.query('BEGIN')
  await markUsage(host, late, { source: 'late' })
  await markUsage(rolledBack, undone, { source: 'undone' })
  const { rows } = await host.query('SELECT DISTINCT period_end FROM pending_usage')
  const periodEnd: Date = rows.at(-1).period_end
  // Later periods are flushed as well, and the late marks are older than all of them.
  for (let period = 0; period < PERIODS; period++) {
    await markUsage(pool, other, { source: 'other' })
    await until('the others are flushed', async () => {
      await flush(pool)
      return (await pendingCount(pool)) === 0
    })
  }
  const log = collectLog()
  await using _worker = await startFlushWorker({
    database: database.connectionString,
    logger: log.logger,
    flushIntervalSeconds: 1,
  })
  await until('a worker has found nothing', () => log.find('nothing to flush').length > 0, {
    timeoutMs: 20_000,
  })
  await rolledBack.query('ROLLBACK')
  await host.query('COMMIT')
  const since = performance.now()
  await until('the worker has flushed the late marks', async () => (await pendingCount(pool)) === 0, {
    timeoutMs: 20_000,
  })
  const seconds = ((performance.now() - since) / 1_000).toFixed(1)
  const { rows: used } = await pool.query(
    'SELECT last_used_at FROM workspaces WHERE id = ANY ($1::uuid[]) AND last_used_at = $2',
    [late, periodEnd],
  )
  t.diagnostic(`marked 10 late, survived ${used.length}, lost ${10 - used.length}, recovered in ${seconds} s`)
  assert.equal(used.length, 10)
  const { rows: never } = await pool.query(
    'SELECT FROM workspaces WHERE id = ANY ($1::uuid[]) AND last_used_at IS NULL',
    [undone],
  )
  assert.equal(never.length, 10, 'what was rolled back never counts')
  const flushed = log.find('updated workspaces last_used_at').map(({ fields }) => fields.flushed as number)
  assert.equal(
    flushed.reduce((sum, marks) => sum + marks, 0),
    10,
  )
}
