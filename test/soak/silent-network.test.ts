/** A tracker as README shows it, with all its defaults, on a network that goes silent. */

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import type { Connection } from '../../src/database/connection.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { createTestDatabase } from '../support/database.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'

const RECOVERY_MS = 30_000

const CONNECTIONS: Record<string, (pool: pg.Pool) => Connection> = {
  'a pg Pool': pool => pool,
  Kysely: pool => new Kysely({ dialect: new PostgresDialect({ pool }) }),
}

for (const [name, connectionOf] of Object.entries(CONNECTIONS)) {
  test(`a tracker with defaults on ${name} stores its marks within 30 s of a silence`, async () => {
    const database = await createTestDatabase()
    await using proxy = await startHalfOpenProxy(database.connectionString)
    const pool = new pg.Pool({ connectionString: proxy.connectionString })
    pool.on('error', () => {})
    // Nobody but its owner can reach a client inside Kysely. If it breaks unheard, the process ends.
    pool.on('connect', client => client.on('error', () => {}))
    const clients = await Promise.all(Array.from({ length: 10 }, () => pool.connect()))
    for (const client of clients) client.release()
    const log = collectLog()
    const tracker = new UsageTracker(connectionOf(pool), { source: 'ssh', logger: log.logger })
    tracker.mark(randomUUID())
    await tracker.drain()
    const silentSince = performance.now()
    proxy.silence()
    const id = randomUUID()
    tracker.mark(id)
    await until(
      'the mark is stored',
      async () => {
        const { rowCount } = await database.pool.query('SELECT FROM pending_usage WHERE workspace_id = $1', [
          id,
        ])
        return rowCount === 1
      },
      { timeoutMs: RECOVERY_MS },
    )
    assert.ok(performance.now() - silentSince < RECOVERY_MS)
    assert.equal(log.lines[0]!.message, 'marks failed to be stored; they are kept and tried again')
    assert.deepEqual(await tracker.close(), { left: 0 })
  })
}
