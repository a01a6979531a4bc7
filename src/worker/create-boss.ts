import { PgBoss } from 'pg-boss'
import { bossBackend } from './backend.ts'
import type { BoundedPool } from './bounded-pool.ts'
import type { FlushReports } from './flush-reports.ts'
import { JobDatabase } from './job-database.ts'
import { bossTimes } from './poll.ts'
import { mayKeepQueueStats } from './queue-stats.ts'
import type { Reach } from './reach.ts'
import type { WorkerSettings } from './worker-options.ts'

/** What pg-boss of a worker is made of. */
export interface BossParts {
  connections: BoundedPool
  /** The queue of the flush jobs. */
  queue: string
  reach: Reach
  reports: FlushReports
  settings: WorkerSettings
}

/** Makes a pg-boss that creates nothing and logs what happens. It is not started yet. */
export async function createBoss({
  connections,
  queue,
  reach,
  reports,
  settings,
}: BossParts): Promise<PgBoss> {
  const { logger, clock, pollSeconds } = settings
  const boss = new PgBoss({
    db: new JobDatabase(connections, reports, connections.schema),
    migrate: false,
    createSchema: false,
    persistWarnings: true,
    persistQueueStats: await mayKeepQueueStats(connections),
    ...bossTimes(pollSeconds),
    ...(await bossBackend(connections)),
    ...(clock && { clock }),
  })
  boss.on('error', error => {
    // While the database is out of reach everything fails, and it was told. A failed flush was told by its transaction.
    if (reach.away || connections.isCut) return
    if ('queue' in error && error.queue === queue) reports.jobsFailed(error)
    else logger.error({ err: error }, 'pg-boss failed at something other than a flush')
  })
  boss.on('warning', warning => logger.warn({ ...warning }, 'pg-boss warns'))
  return boss
}
