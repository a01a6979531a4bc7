import { type ConnectionPool, createPool } from '../database/pool.ts'
import type { Logger } from '../logger.ts'

/** The pool of a worker, and how to let go of it. */
export interface WorkerPool {
  pool: ConnectionPool
  /** Ends a pool of the worker's own. The host's pool stays open. */
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
  // An idle connection that breaks is no failure: the pool replaces it. But it ends the process if nobody listens.
  const onIdleError = (error: Error) => logger.warn({ err: error }, 'an idle database connection broke')
  database.on('error', onIdleError)
  return { pool: database, letGo: async () => void database.removeListener('error', onIdleError) }
}
