import type pg from 'pg'
import type { TestDatabase } from '../support/database.ts'
import type { FaultyProxy } from '../support/faulty-proxy.ts'
import { until } from '../support/poll.ts'
import { lastUsedAt } from '../support/seed.ts'

/** Options of a worker. The deadline on our side is two seconds later than that of the server. */
export const SHORT = { flushIntervalSeconds: 1, flushTimeoutSeconds: 0.5 }

/** How the server calls the connections of a worker. */
export const WORKER = 'workspace-usage worker'

/** How long a fault of a worker's network lasts. It is longer than the deadline of a statement. */
export const FAULT_MS = 3_500

/** What happens to a network, and then passes. The names end the sentence "a network that …". */
export const NETWORK_FAULTS: Record<string, (proxy: FaultyProxy) => void> = {
  'resets all connections': proxy => proxy.cut('reset'),
  'ends all connections with a goodbye': proxy => proxy.cut('end'),
  'resets all connections, and new ones at once': proxy => {
    proxy.has({ kind: 'refuses' })
    proxy.cut('reset')
  },
  'takes all bytes and passes them on later': proxy => proxy.has({ kind: 'stalls' }),
  'accepts connections on which nobody answers': proxy => {
    proxy.has({ kind: 'mutes' })
    proxy.cut('reset')
  },
  'loses all that clients send': proxy => proxy.has({ kind: 'loses', goingTo: 'server' }),
  'loses all that the server sends': proxy => proxy.has({ kind: 'loses', goingTo: 'client' }),
  'passes each packet on after a random time': proxy => proxy.has({ kind: 'delays', leastMs: 5, mostMs: 50 }),
  'passes on one byte at a time': proxy => proxy.has({ kind: 'splits' }),
}

/** Waits until neither the server nor the proxy has a connection of that name. */
export async function untilNoConnection(
  { pool }: TestDatabase,
  proxy: FaultyProxy,
  applicationName: string,
): Promise<void> {
  await until('no connection is left', async () => {
    const { rowCount } = await pool.query(
      'SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1',
      [applicationName],
    )
    return rowCount === 0 && proxy.open === 0
  })
}

/** Waits until each of the workspaces has a last use. */
export async function untilFlushed(pool: pg.Pool, ids: string[]): Promise<void> {
  await until(
    'the marks are flushed',
    async () => (await lastUsedAt(pool, ids)).every(time => time !== null),
    { timeoutMs: 30_000, intervalMs: 50 },
  )
}
