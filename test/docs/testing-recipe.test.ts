/*
 * How the tests of a project that uses workspace-usage stay deterministic. They need the package's own API, pg-boss's
 * TestClock, and a migrated database that nobody else uses.
 */

import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { TestClock } from 'pg-boss'
import {
  type Connection,
  flush,
  pendingStatus,
  setUsagePeriod,
  startFlushWorker,
  UsageTracker,
} from '../../src/index.ts'
import { createTestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt } from '../support/seed.ts'

const { pool, connectionString } = await createTestDatabase()

// Once, after migrating: periods of 100 ms. The database holds their length, so no client needs an option.
await setUsagePeriod(pool, 0.1)

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

/** Waits until all marks may be flushed. It asks for that state, so nothing depends on timing. */
async function untilPeriodClosed(db: Connection): Promise<void> {
  await until('no mark is in the open period', async () => (await pendingStatus(db)).open === 0)
}

test('a test that flushes by hand decides when a mark is flushed', async () => {
  const [used, unused] = await createWorkspaces(pool, 2)
  const { rows } = await pool.query('SELECT clock_timestamp() AS now')
  await using tracker = new UsageTracker(pool, { source: 'ssh' })
  tracker.mark(used!)
  await tracker.drain()
  await untilPeriodClosed(pool)
  assert.deepEqual(await lastUsedAt(pool, [used!, unused!]), [null, null])

  const { flushed, updated } = await flush(pool)
  assert.deepEqual({ flushed, updated }, { flushed: 1, updated: 1 })
  const [usedAt, unusedAt] = await lastUsedAt(pool, [used!, unused!])
  assert.ok(usedAt! >= rows[0].now, 'not before the mark, by the clock of the database')
  assert.equal(unusedAt, null)
})

test('a test with a TestClock decides when the worker flushes', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const log = collectLog()
  const clock = new TestClock()
  await using _worker = await startFlushWorker({ database: connectionString, logger: log.logger, clock })
  // The clock waits for the statements of pg-boss, not for a flush. So advance it in steps, and check after each.
  const advanceUntil = async (description: string, reached: () => boolean | Promise<boolean>) => {
    await until(description, async () => {
      await clock.tick(5_000)
      return await reached()
    })
  }
  await advanceUntil('the worker has flushed at its start', () => log.find('nothing to flush').length > 0)

  await using tracker = new UsageTracker(pool, { source: 'ssh' })
  tracker.mark(id!)
  await tracker.drain()
  await untilPeriodClosed(pool)
  await advanceUntil('the flush is told', () => log.find('updated workspaces last_used_at').length > 0)
  const [told] = log.find('updated workspaces last_used_at')
  assert.equal(told!.fields.updated, 1)
  assert.notEqual((await lastUsedAt(pool, [id!]))[0], null)
})
