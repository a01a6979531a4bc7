import { type FlushWorker, type FlushWorkerOptions, startFlushWorker } from '../../src/worker/worker.ts'
import type { TestDatabase } from './database.ts'

/** Starts a flush worker in this process, on connections of its own, that logs to `log`. */
export function startWorker(
  { connectionString }: TestDatabase,
  { logger }: Pick<FlushWorkerOptions, 'logger'>,
  options: Omit<FlushWorkerOptions, 'database' | 'logger'>,
): Promise<FlushWorker> {
  return startFlushWorker({ database: connectionString, logger, ...options })
}
