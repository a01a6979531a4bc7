import { PgBoss } from 'pg-boss'
import type { BoundedPool } from './bounded-pool.ts'
import { FlushLog } from './flush-log.ts'
import { JobDatabase } from './job-database.ts'
import { JobLog } from './job-log.ts'
import { mayKeepQueueStats } from './queue-stats.ts'
import type { Reach } from './reach.ts'
import type { WorkerSettings } from './worker-options.ts'

/** Turns an error of a statement into one that says what to do. */
export type Explain = (error: unknown) => Promise<unknown>

/** What pg-boss of a worker is made of. */
export interface BossParts {
  connections: BoundedPool
  /** The queue of the flush jobs. */
  queue: string
  reach: Reach
  settings: WorkerSettings
  explain: Explain
}

/** Makes a pg-boss that creates nothing and logs what happens. It is not started yet. */
export async function createBoss({
  connections,
  queue,
  reach,
  settings,
  explain,
}: BossParts): Promise<PgBoss> {
  const { logger, clock } = settings
  const flushLog = new FlushLog(logger)
  const jobLog = new JobLog(logger)
  const reports = {
    committed: (flush: Parameters<FlushLog['flushed']>[0]) => {
      jobLog.works()
      flushLog.flushed(flush)
    },
    failed: async (error: unknown) => flushLog.failed(await explain(error)),
  }
  const boss = new PgBoss({
    db: new JobDatabase(connections, reports),
    migrate: false,
    createSchema: false,
    persistWarnings: true,
    persistQueueStats: await mayKeepQueueStats(connections),
    ...(clock && { clock }),
  })
  boss.on('error', async error => {
    // While the database is out of reach everything fails, and it was told. A failed flush was told by its transaction.
    if (reach.away || connections.isCut) return
    if ('queue' in error && error.queue === queue) jobLog.failed(await explain(error))
    else logger.error({ err: error }, 'pg-boss failed at something other than a flush')
  })
  boss.on('warning', warning => logger.warn({ ...warning }, 'pg-boss warns'))
  return boss
}
