import { listenForErrors } from '../database/connection.ts'
import { type ConnectionPool, createPool } from '../database/pool.ts'
import type { Logger } from '../logger.ts'

/** The pool of a worker, and a way to let go of it. */
export interface WorkerPool {
  pool: ConnectionPool
  /** Ends the pool if the worker opened it. The host's pool stays open. */
  letGo(): Promise<void>
}

/**
 * Opens a pool for a connection string, or borrows the host's.
 *
 * @throws {InvalidOptionError} If the connection string can't be parsed.
 */
export function takePool(database: string | ConnectionPool, logger: Logger): WorkerPool {
  if (typeof database === 'string') {
    const pool = createPool(database, { applicationName: 'workspace-usage worker', max: 5, logger })
    return { pool, letGo: () => pool.end() }
  }
  // The pool replaces an idle connection that breaks. But if nobody listens, its error ends the process.
  const stopListening = listenForErrors(database, error =>
    logger.warn({ err: error }, 'an idle database connection broke'),
  )
  return { pool: database, letGo: async () => stopListening() }
}
