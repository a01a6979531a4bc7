import type { Queryable } from '../../src/database/connection.ts'
import { FLUSH_QUEUE, type FlushJobOutput } from '../../src/worker/queue.ts'

/** A flush job as pg-boss stores it. */
export interface FlushJob {
  id: string
  state: 'created' | 'retry' | 'active' | 'completed' | 'cancelled' | 'failed'
  output: FlushJobOutput | null
}

/** The flush jobs that pg-boss knows, the oldest first. */
export async function flushJobs(db: Queryable): Promise<FlushJob[]> {
  const { rows } = await db.query(
    'SELECT id, state, output FROM pgboss.job WHERE name = $1 ORDER BY created_on, id',
    [FLUSH_QUEUE],
  )
  return rows as FlushJob[]
}

/** The number of marks that all completed jobs consumed. */
export async function flushedByJobs(db: Queryable): Promise<number> {
  const jobs = await flushJobs(db)
  return jobs
    .filter(({ state }) => state === 'completed')
    .reduce((sum, { output }) => sum + (output?.flushed ?? 0), 0)
}

/** Lets every flush job start that waits for its time: the next one or a retry. */
export async function startWaitingJobs(db: Queryable): Promise<void> {
  await db.query(
    `UPDATE pgboss.job SET start_after = now()
    WHERE name = $1 AND state IN ('created', 'retry') AND start_after > now()`,
    [FLUSH_QUEUE],
  )
}
