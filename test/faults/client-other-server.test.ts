import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type pg from 'pg'
import type { ConnectionPool } from '../../src/database/pool.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { CENTURY, setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces } from '../support/seed.ts'
import { startServer } from '../support/server.ts'

/*
 * The pool of a tracker leads to another database from one moment to the next, and no connection breaks: a pooler
 * between has moved. What the tracker had stored for the open period is not there. The first statement that the new
 * database answers tells the tracker. Until then repeats are lost, for at most one period.
 */

const [STORED, NEW] = [0, 1]

test('repeats reach another server behind the same pool after its first answer, and at most those before it are lost', async t => {
  const before = await createTestDatabase()
  const server = await startServer()
  await leadsElsewhere(t, before, await createTestDatabase({ on: server.connectionString }))
})

test('repeats reach another database of the same server after its first answer', async t => {
  await leadsElsewhere(t, await createTestDatabase(), await createTestDatabase())
})

test('repeats reach another database of the same server after its first answer on PostgreSQL 15', async t => {
  await onPostgres15(t, async before =>
    onPostgres15(t, async after => {
      await leadsElsewhere(t, before, after)
    }),
  )
})

test('repeats are stored again after pending_usage was truncated and one other mark was stored', async t => {
  const database = await createTestDatabase()
  await leadsElsewhere(t, database, database, () => database.pool.query('TRUNCATE pending_usage'))
})

/** In a period that does not end, so that nothing but the answer can tell. */
async function leadsElsewhere(
  t: TestContext,
  before: TestDatabase,
  after: TestDatabase,
  move: () => unknown = () => {},
): Promise<void> {
  for (const { pool } of [before, after]) await setPeriodLength(pool, CENTURY)
  const ids = await createWorkspaces(before.pool, 2)
  const lead = { to: before.pool }
  const { logger } = collectLog()
  await using tracker = new UsageTracker(poolThatLeads(lead), { source: 'test', logger })
  tracker.mark(ids[STORED]!)
  await tracker.drain()
  lead.to = after.pool
  await move()
  tracker.mark(ids[STORED]!)
  await tracker.drain()
  assert.deepEqual(await stored(after.pool), [], 'nothing could tell the tracker')

  const since = performance.now()
  tracker.mark(ids[NEW]!)
  await tracker.drain()
  tracker.mark(ids[STORED]!)
  await until('the repeat is stored', async () => (await stored(after.pool)).length === 2)
  const seconds = ((performance.now() - since) / 1_000).toFixed(1)
  t.diagnostic(`marked 4, survived 2, lost 2 of before the first answer, recovered in ${seconds} s`)
  assert.deepEqual(await stored(after.pool), ids.toSorted())
}

test('a repeat that another server lacks is stored at the latest when the period has ended', async t => {
  const [before, after] = [await createTestDatabase(), await createTestDatabase()]
  for (const { pool } of [before, after]) await setPeriodLength(pool, 1)
  const [id] = await createWorkspaces(before.pool, 1)
  const lead = { to: before.pool }
  await using tracker = new UsageTracker(poolThatLeads(lead), { source: 'test', logger: collectLog().logger })
  tracker.mark(id!)
  await tracker.drain()
  lead.to = after.pool
  const since = performance.now()
  let marked = 1
  await until('a repeat is stored', async () => {
    marked++
    tracker.mark(id!)
    return (await stored(after.pool)).length > 0
  })
  const seconds = (performance.now() - since) / 1_000
  t.diagnostic(
    `marked ${marked}, survived the first mark of the next period, recovered in ${seconds.toFixed(1)} s`,
  )
  assert.ok(seconds < 5, `${seconds} s`)
})

/** A pool that can be led to another one. None of its connections breaks. */
function poolThatLeads(lead: { to: pg.Pool }): ConnectionPool {
  return {
    query: (text, values) => lead.to.query(text, values),
    connect: () => lead.to.connect(),
    on: (event, listener) => lead.to.on(event, listener),
    removeListener: (event, listener) => lead.to.removeListener(event, listener),
  }
}

async function stored(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query('SELECT workspace_id AS id FROM pending_usage ORDER BY id')
  return rows.map(({ id }) => id)
}
