import { listenForErrors } from '../database/connection.ts'
import { destroyConnection } from '../database/deadline.ts'
import { inSchema } from '../database/in-schema.ts'
import { type ConnectionPool, createPool, type OwnedPool, type PoolOptions } from '../database/pool.ts'
import type { Logger } from '../logger.ts'
import { endsWithin } from './ends-within.ts'

/** The longest wait for the end of a pool or of a connection, in ms. */
const END_TIMEOUT_MS = 1_000

/** The pool of a worker, and a way to let go of it. */
export interface WorkerPool {
  pool: ConnectionPool
  /** Ends the pool if the worker opened it. The host's pool stays open. It ends in bounded time. */
  letGo(): Promise<void>
}

/**
 * Opens a pool for a connection string, or borrows the host's.
 *
 * @param schema The schema of the tables. Undefined: `search_path` leads to them, or a note of the pool.
 * @param options Of the pool that is opened.
 * @throws {InvalidOptionError} If the connection string can't be parsed.
 */
export function takePool(
  database: string | ConnectionPool,
  schema: string | undefined,
  logger: Logger,
  options: Partial<PoolOptions> = {},
): WorkerPool {
  const { pool, letGo } = openOrBorrow(database, logger, options)
  return { pool: schema === undefined ? pool : inSchema(pool, schema), letGo }
}

function openOrBorrow(
  database: string | ConnectionPool,
  logger: Logger,
  { applicationName = 'workspace-usage worker', ...options }: Partial<PoolOptions>,
): WorkerPool {
  if (typeof database === 'string') {
    const pool = createPool(database, { applicationName, max: 5, logger, ...options })
    const open = openClients(pool)
    return { pool, letGo: () => end(pool, open) }
  }
  // The pool replaces an idle connection that breaks. But if nobody listens, its error ends the process.
  const stopListening = listenForErrors(database, error =>
    logger.warn({ err: error }, 'an idle database connection broke'),
  )
  return { pool: database, letGo: async () => stopListening() }
}

/** A set of the clients of a pool that is kept up to date. */
function openClients(pool: OwnedPool): ReadonlySet<object> {
  const clients = new Set<object>()
  const events = pool as unknown as {
    on(event: 'connect' | 'remove', listener: (client: object) => void): unknown
  }
  events.on('connect', client => clients.add(client))
  events.on('remove', client => clients.delete(client))
  return clients
}

/** A client that is silent never closes by itself, and would keep the process alive. */
async function end(pool: OwnedPool, open: ReadonlySet<object>): Promise<void> {
  const destroyAll = () => {
    for (const client of open) destroyConnection(client)
  }
  if (!(await endsWithin(pool.end(), END_TIMEOUT_MS))) destroyAll()
  setTimeout(destroyAll, END_TIMEOUT_MS).unref()
}
