import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type FlushWorkerOptions, startFlushWorker } from '../../src/worker/worker.ts'
import { collectLog } from '../support/log-lines.ts'

/** Nothing listens on this port, so a worker that connects fails with another error than the expected one. */
const NOWHERE = 'postgres://127.0.0.1:1/nowhere'

const start = (options: object) => startFlushWorker(options as FlushWorkerOptions)
const { logger } = collectLog()

test('a misspelt option of a worker is refused before anything is connected, and the nearest is named', async () => {
  await assert.rejects(start({ database: NOWHERE, logger, flushIntervalSecs: 5 }), {
    name: 'UnknownOptionError',
    message:
      'no such option: "flushIntervalSecs". Did you mean "flushIntervalSeconds"? Allowed: database, schema, logger, ' +
      'flushIntervalSeconds, batchSize, sources, historyDays, unknownAfterSeconds, flushTimeoutSeconds, pollSeconds, waitSeconds, signal, health, clock, onFlush, onFailure, onReset.',
  })
})

test('a worker without a database or a logger is refused, and the error says what is allowed', async () => {
  await assert.rejects(start({ logger }), {
    name: 'InvalidOptionError',
    message:
      'database is undefined; allowed: a connection string such as postgres://user@host:5432/database, or a pg Pool.',
  })
  await assert.rejects(start({ database: NOWHERE }), { name: 'InvalidOptionError', option: 'logger' })
})

test('an option of a worker that is of the wrong type is refused before anything is connected', async () => {
  const wrong = {
    database: { host: '127.0.0.1', password: 'not-for-any-log' },
    logger: () => {},
    flushIntervalSeconds: '60',
    flushTimeoutSeconds: '10',
    sources: 'no',
    pollSeconds: 0.4,
    waitSeconds: -1,
    signal: new AbortController(),
    health: 180,
    clock: Date,
    onFlush: {},
  }
  for (const [option, value] of Object.entries(wrong)) {
    await assert.rejects(start({ database: NOWHERE, logger, [option]: value }), (error: Error) => {
      assert.deepEqual([error.name, 'option' in error && error.option], ['InvalidOptionError', option])
      assert.doesNotMatch(error.message, /not-for-any-log/)
      return true
    })
  }
})
