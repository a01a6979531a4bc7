import assert from 'node:assert/strict'
import { suite, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { type FaultyProxy, startFaultyProxy } from '../support/faulty-proxy.ts'
import { flushedByJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { FAULT_MS, NETWORK_FAULTS, SHORT, untilFlushed, untilNoConnection, WORKER } from './network-faults.ts'

suite('workers on a bad network', { concurrency: 5 }, () => {
  for (const [fault, strike] of Object.entries(NETWORK_FAULTS)) {
    test(`a worker on a network that ${fault} loses no mark, flushes none twice, and is as before when it is over`, async t => {
      await worksThrough(t, await createTestDatabase(), strike)
    })
  }

  const fault = 'takes all bytes and passes them on later'
  test(`a worker on a network that ${fault} loses no mark and flushes none twice on PostgreSQL 15`, async t => {
    await onPostgres15(t, database => worksThrough(t, database, NETWORK_FAULTS[fault]!))
  })
})

async function worksThrough(
  t: TestContext,
  database: TestDatabase,
  strike: (proxy: FaultyProxy) => void,
): Promise<void> {
  const { pool } = database
  await using proxy = await startFaultyProxy(database.connectionString)
  const log = collectLog()
  const worker = await startFlushWorker({ database: proxy.connectionString, logger: log.logger, ...SHORT })
  const marks = markSteadily(database)
  await until('a flush has worked', () => log.find('updated workspaces last_used_at').length > 0)
  strike(proxy)
  await delay(FAULT_MS)
  proxy.heal()
  const since = performance.now()
  await marks.untilNextIsFlushed()
  const seconds = ((performance.now() - since) / 1_000).toFixed(1)
  const marked = await marks.stop()
  await untilFlushed(pool, marked)
  const flushed = await flushedByJobs(pool)
  t.diagnostic(
    `marked ${marked.length}, survived ${flushed}, lost ${marked.length - flushed}, recovered in ${seconds} s`,
  )
  // Each workspace is marked once, so a larger number would mean that marks were flushed twice.
  assert.equal(flushed, marked.length)
  await until(
    'the end of each outage is logged',
    () => log.find('out of reach').length === log.find('within reach again').length,
  )
  assert.ok(log.find('out of reach').length <= 2, 'an outage is told once')
  await worker.stop()
  await untilNoConnection(database, proxy, WORKER)
}

/** Marks one workspace after another, past the proxy. Each is marked once. */
function markSteadily({ pool }: TestDatabase) {
  const marked: string[] = []
  let over = false
  const marking = (async () => {
    while (!over) {
      const some = await createWorkspaces(pool, 5)
      await storeClosedMarks(pool, some)
      marked.push(...some)
      await delay(50)
    }
  })()
  return {
    untilNextIsFlushed: async () => {
      const before = marked.length
      await until('more is marked', () => marked.length > before)
      await untilFlushed(pool, [marked[before]!])
    },
    stop: async () => {
      over = true
      await marking
      return marked
    },
  }
}
