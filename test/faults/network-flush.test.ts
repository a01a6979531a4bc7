import assert from 'node:assert/strict'
import { suite, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { type FaultyProxy, startFaultyProxy } from '../support/faulty-proxy.ts'
import { heardPool } from '../support/heard-pool.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces, lastUsedAt, storeClosedMarks } from '../support/seed.ts'
import { NETWORK_FAULTS, untilNoConnection } from './network-faults.ts'

const TIMEOUT_SECONDS = 0.1
/** Longer than the deadline of a statement, which is two seconds later than that of the server. */
const FAULT_MS = 3_000
/** A flush waits for a connection and for each answer. After the first that is late it gives up. */
const LONGEST_MS = 10_000
const FLUSHER = 'flusher under test'

suite('flushes by hand on a bad network', { concurrency: 3 }, () => {
  for (const [fault, strike] of Object.entries(NETWORK_FAULTS)) {
    test(`flushes on a network that ${fault} end in time and lose no mark, and are as before when it is over`, async t => {
      await flushThrough(t, await createTestDatabase(), strike)
    })
  }

  const fault = 'loses all that the server sends'
  test(`flushes on a network that ${fault} lose no mark on PostgreSQL 15`, async t => {
    await onPostgres15(t, database => flushThrough(t, database, NETWORK_FAULTS[fault]!))
  })
})

async function flushThrough(
  t: TestContext,
  database: TestDatabase,
  strike: (proxy: FaultyProxy) => void,
): Promise<void> {
  const ids = await createWorkspaces(database.pool, 5_000)
  await using proxy = await startFaultyProxy(database.connectionString)
  const pool = heardPool({
    connectionString: proxy.connectionString,
    max: 2,
    application_name: FLUSHER,
  })
  const marked: string[] = []
  let [ended, failed, flushed, longestMs] = [0, 0, 0, 0]
  let over = false
  const flushing = (async () => {
    while (!over) {
      const some = ids.splice(-20)
      await storeClosedMarks(database.pool, some)
      marked.push(...some)
      const from = performance.now()
      await flush(pool, { timeoutSeconds: TIMEOUT_SECONDS }).then(
        result => {
          ended++
          flushed += result.flushed
        },
        () => failed++,
      )
      longestMs = Math.max(longestMs, performance.now() - from)
      await delay(10)
    }
  })()
  await until('some flushes have ended', () => ended > 3)
  strike(proxy)
  await delay(FAULT_MS)
  proxy.heal()
  const since = { time: performance.now(), ended }
  await until('flushes work again', () => ended > since.ended + 3, { timeoutMs: 20_000 })
  const seconds = ((performance.now() - since.time) / 1_000).toFixed(1)
  over = true
  await flushing
  // A flush that was given up may still hold the last marks.
  await until('all marks are flushed', async () => {
    flushed += (await flush(database.pool)).flushed
    return (await lastUsedAt(database.pool, marked)).every(time => time !== null)
  })
  await pool.end()
  const survived = (await lastUsedAt(database.pool, marked)).filter(time => time !== null).length
  const lost = marked.length - survived
  t.diagnostic(
    `marked ${marked.length}, survived ${survived}, lost ${lost}, ${failed} of ${ended + failed} flushes failed, recovered in ${seconds} s, longest flush ${(longestMs / 1_000).toFixed(1)} s`,
  )
  assert.equal(lost, 0)
  // Less if the answer to a COMMIT was lost.
  assert.ok(flushed <= marked.length, `${flushed} of ${marked.length} marks were flushed`)
  assert.ok(longestMs < LONGEST_MS, `a flush took ${longestMs} ms`)
  await untilNoConnection(database, proxy, FLUSHER)
}
