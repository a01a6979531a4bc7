import type { Job, PgBoss } from 'pg-boss'
import type { Connection } from '../database/connection.ts'
import { type ClearedHistory, clearHistory } from '../history/clear-history.ts'
import type { Logger } from '../logger.ts'
import { HISTORY_POLICY, SCHEDULE_OPTIONS } from './queue-options.ts'
import { assertPolicy } from './requirements.ts'

/** Once a day, at a time at which no other clock starts something. */
const CRON = '17 3 * * *'

/** What a job carries, so that it does not matter which worker takes it. The worker that started last says it. */
export interface HistoryJobData {
  historyDays: number
}

/** What the clearing of history needs. */
export interface HistoryJobParts {
  boss: PgBoss
  queue: string
  /** Each step is a statement of its own on it. */
  connection: Connection
  historyDays: number
  /** Seconds between two questions for the job. */
  pollSeconds: number
  logger: Logger
  /** Aborted when the worker is stopped. */
  ending: AbortSignal
}

/** The output of a finished job, as the dashboard shows it. */
export interface HistoryJobOutput extends ClearedHistory {
  historyDays: number
}

/**
 * Clears old history once a day. It sets the schedule, and takes its jobs.
 *
 * @returns The id of pg-boss's worker, for `notifyWorker`.
 */
export async function takeHistoryJobs(parts: HistoryJobParts): Promise<string> {
  const { boss, queue, historyDays, pollSeconds } = parts
  await assertPolicy(boss, queue, HISTORY_POLICY)
  const data: HistoryJobData = { historyDays }
  await boss.schedule(queue, CRON, data, SCHEDULE_OPTIONS)
  return await boss.work(
    queue,
    { pollingIntervalSeconds: pollSeconds },
    ([job]: Job<HistoryJobData | null>[]): Promise<HistoryJobOutput> =>
      clear(parts, job!.data?.historyDays ?? historyDays, job!.signal),
  )
}

async function clear(
  { connection, logger, ending }: HistoryJobParts,
  historyDays: number,
  taken: AbortSignal,
): Promise<HistoryJobOutput> {
  const started = performance.now()
  try {
    const cleared = await clearHistory(connection, { historyDays, signal: AbortSignal.any([ending, taken]) })
    const durationMs = Math.round(performance.now() - started)
    if (cleared.cleared > 0 || cleared.orphans > 0) {
      logger.info({ ...cleared, historyDays, durationMs }, 'cleared old history')
    }
    return { ...cleared, historyDays }
  } catch (error) {
    logger.error({ err: error }, 'old history was not cleared; it is tried again')
    throw error
  }
}
