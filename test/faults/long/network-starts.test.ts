import assert from 'node:assert/strict'
import { suite, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { startFlushWorker } from '../../../src/worker/worker.ts'
import { createTestDatabase, type TestDatabase } from '../../support/database.ts'
import { type FaultyProxy, startFaultyProxy } from '../../support/faulty-proxy.ts'
import { collectLog } from '../../support/log-lines.ts'
import { createWorkspaces, storeClosedMarks } from '../../support/seed.ts'
import {
  FAULT_MS,
  NETWORK_FAULTS,
  SHORT,
  untilFlushed,
  untilNoConnection,
  WORKER,
} from '../network-faults.ts'

suite('workers that start on a bad network', { concurrency: 3 }, () => {
  for (const [fault, strike] of Object.entries(NETWORK_FAULTS)) {
    test(`a worker that starts on a network that ${fault} starts or gives up in time, and one that may wait starts when it is over`, async t => {
      await startsThrough(t, await createTestDatabase(), strike)
    })
  }
})

async function startsThrough(
  t: TestContext,
  database: TestDatabase,
  strike: (proxy: FaultyProxy) => void,
): Promise<void> {
  await using proxy = await startFaultyProxy(database.connectionString)
  strike(proxy)
  const options = { database: proxy.connectionString, logger: collectLog().logger, ...SHORT }
  const from = performance.now()
  const failed = await startFlushWorker(options).then(
    async worker => {
      await worker.stop()
      return null
    },
    (error: Error) => error,
  )
  const tried = (performance.now() - from) / 1_000
  assert.ok(tried < 20, `it took ${tried} s`)

  const starting = startFlushWorker({ ...options, waitSeconds: 60 })
  await delay(FAULT_MS)
  proxy.heal()
  const since = performance.now()
  const worker = await starting
  const seconds = ((performance.now() - since) / 1_000).toFixed(1)
  const ids = await createWorkspaces(database.pool, 1)
  await storeClosedMarks(database.pool, ids)
  await untilFlushed(database.pool, ids)
  t.diagnostic(
    `marked 1, survived 1, lost 0, ${failed ? `gave up (${failed.name})` : 'started and stopped'} in ${tried.toFixed(1)} s, started ${seconds} s after the fault`,
  )
  await worker.stop()
  await untilNoConnection(database, proxy, WORKER)
}
