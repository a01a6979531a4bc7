import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { ConnectionPool } from '../../src/database/pool.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { collectLog } from '../support/log-lines.ts'

/* What a tracker does between its statements, on a pool that is not a real one. */

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

test('a tracker sends a mark at once, however soon after the last answer it comes', async () => {
  const pool = poolOf(async () => ({ rows: [{ remaining_ms: '100000', period_end: '1', server: 'one' }] }))
  await using tracker = new UsageTracker(pool)
  for (let ticks = 0; ticks < 30; ticks++) {
    tracker.mark(randomUUID())
    await tracker.drain()
    for (let tick = 0; tick < ticks; tick++) await null
    tracker.mark(randomUUID())
    for (let turns = 0; turns < 5; turns++) await turn()
    assert.equal(tracker.stats().pending, 0, `${ticks} microtasks after the answer`)
  }
})

test('marks that come while the statements of a tracker are not answered take no memory but their own', async () => {
  const pool = poolOf(() => new Promise(() => {}))
  const tracker = new UsageTracker(pool, { logger: collectLog().logger })
  // Two batches are under way, and a third one waits.
  for (let mark = 0; mark < 16_000; mark++) tracker.mark(randomUUID())
  await turn()
  const memory = () => {
    collectGarbage()
    return process.memoryUsage().heapUsed
  }
  const before = memory()
  const marks = 40_000
  for (let mark = 0; mark < marks; mark++) {
    tracker.mark(randomUUID())
    await turn()
  }
  const bytes = (memory() - before) / marks
  await tracker.close({ timeoutMs: 0 })
  assert.ok(bytes < 200, `${bytes.toFixed(0)} bytes a mark`)
})

/** A pool of connections that answer so. */
function poolOf(query: () => Promise<{ rows: unknown[] }>): ConnectionPool {
  const client = Object.assign(new EventEmitter(), { query, release() {} })
  const connect = (take: (error: undefined, taken: typeof client) => void) => take(undefined, client)
  return Object.assign(new EventEmitter(), { totalCount: 0, connect, query }) as unknown as ConnectionPool
}
