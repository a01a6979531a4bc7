import assert from 'node:assert/strict'
import { suite, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { markUsage } from '../../src/mark/mark.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { type FaultyProxy, startFaultyProxy } from '../support/faulty-proxy.ts'
import { heardPool } from '../support/heard-pool.ts'
import { collectLog } from '../support/log-lines.ts'
import { CENTURY, setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces } from '../support/seed.ts'
import { NETWORK_FAULTS, untilNoConnection } from './network-faults.ts'

const ANSWER_MS = 500
/** Longer than the deadline of a statement. */
const FAULT_MS = 1_500
const RECOVERY_MS = 15_000
const MARKER = 'marker under test'

suite('markers on a bad network', { concurrency: 3 }, () => {
  for (const [fault, strike] of Object.entries(NETWORK_FAULTS)) {
    test(`a tracker on a network that ${fault} loses no mark, and is as before when it is over`, async t => {
      await marksThrough(t, await createTestDatabase(), strike, trackerOf)
    })
    test(`markUsage on a network that ${fault} ends each call in time, loses no acknowledged mark, and is as before when it is over`, async t => {
      await marksThrough(t, await createTestDatabase(), strike, marksOf)
    })
  }

  for (const fault of ['takes all bytes and passes them on later', 'loses all that the server sends']) {
    test(`a tracker on a network that ${fault} loses no mark on PostgreSQL 15`, async t => {
      await onPostgres15(t, database => marksThrough(t, database, NETWORK_FAULTS[fault]!, trackerOf))
    })
  }
})

interface Marker {
  /** Resolves when marks of all ids are acknowledged. */
  mark(ids: string[]): Promise<unknown>
  pool: pg.Pool
  close(): Promise<unknown>
}

/** On a plain pool, because all deadlines are the tracker's. */
function trackerOf(config: pg.PoolConfig): Marker {
  const pool = heardPool(config)
  const tracker = new UsageTracker(pool, {
    statementTimeoutMs: ANSWER_MS,
    logger: collectLog().logger,
  })
  return {
    pool,
    mark: ids => {
      for (const id of ids) tracker.mark(id)
      return tracker.drain()
    },
    close: () => tracker.close(),
  }
}

/** The deadlines are the pool's, because it is one statement of the host. */
function marksOf(config: pg.PoolConfig): Marker {
  const pool = heardPool({
    ...config,
    connectionTimeoutMillis: ANSWER_MS,
    query_timeout: 2 * ANSWER_MS,
  })
  return { pool, mark: ids => markUsage(pool, ids), close: async () => {} }
}

async function marksThrough(
  t: TestContext,
  database: TestDatabase,
  strike: (proxy: FaultyProxy) => void,
  markerOf: (config: pg.PoolConfig) => Marker,
): Promise<void> {
  await setPeriodLength(database.pool, CENTURY)
  const ids = await createWorkspaces(database.pool, 5_000)
  await using proxy = await startFaultyProxy(database.connectionString)
  const { pool, ...marker } = markerOf({
    connectionString: proxy.connectionString,
    max: 3,
    application_name: MARKER,
  })
  const acknowledged: string[] = []
  let failed = 0
  let longestMs = 0
  let over = false
  const marking = (async () => {
    while (!over) {
      const some = ids.splice(-3)
      const from = performance.now()
      await marker.mark(some).then(
        () => acknowledged.push(...some),
        () => failed++,
      )
      longestMs = Math.max(longestMs, performance.now() - from)
      await delay(10)
    }
  })()
  await until('marks are acknowledged', () => acknowledged.length > 10)
  strike(proxy)
  await delay(FAULT_MS)
  proxy.heal()
  const since = { time: performance.now(), acknowledged: acknowledged.length }
  await until('marks are acknowledged again', () => acknowledged.length > since.acknowledged + 10, {
    timeoutMs: RECOVERY_MS,
  })
  const seconds = (performance.now() - since.time) / 1_000
  over = true
  await marking
  await marker.close()
  await pool.end()

  const survived = await storedOf(database, acknowledged)
  const [marked, lost] = [acknowledged.length, acknowledged.length - survived]
  t.diagnostic(
    `marked ${marked}, survived ${survived}, lost ${lost}, ${failed} calls failed, recovered in ${seconds.toFixed(1)} s, longest call ${(longestMs / 1_000).toFixed(1)} s`,
  )
  assert.equal(lost, 0)
  assert.ok(longestMs < FAULT_MS + RECOVERY_MS)
  await untilNoConnection(database, proxy, MARKER)
}

async function storedOf({ pool }: TestDatabase, ids: string[]): Promise<number> {
  const { rows } = await pool.query(
    'SELECT count(DISTINCT workspace_id)::int AS stored FROM pending_usage WHERE workspace_id = ANY ($1)',
    [ids],
  )
  return rows[0].stored
}
