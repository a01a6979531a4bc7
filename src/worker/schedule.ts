import type { PgBoss } from 'pg-boss'
import { type Connection, execute, type Statement } from '../database/connection.ts'
import { flushInterval } from './flush-interval.ts'
import { JOB_SCHEMA } from './queue.ts'
import { SCHEDULE_OPTIONS } from './queue-options.ts'

/*
 * The interval between flushes belongs to the schedule in the database, and not to a worker. So it does not matter
 * which worker takes a job.
 */

/** What the schedule of a queue carries. pg-boss copies it to the jobs of its cron. */
interface ScheduleData {
  intervalSeconds: number
}

/** A schedule that exists. */
export interface FlushSchedule {
  cron: string
  /** Null if an older release has set the schedule. */
  intervalSeconds: number | null
}

/** Sets the schedule. */
export async function scheduleFlushes(boss: PgBoss, queue: string, intervalSeconds: number): Promise<void> {
  const data: ScheduleData = { intervalSeconds }
  await boss.schedule(queue, flushInterval(intervalSeconds).cron, data, SCHEDULE_OPTIONS)
}

/** Returns the schedule of a queue, or null if there is none. */
export async function flushSchedule(connection: Connection, queue: string): Promise<FlushSchedule | null> {
  const statement: Statement<{ cron: string; seconds: string | null }> = {
    sql: `SELECT cron, data->>'intervalSeconds' AS seconds FROM ${JOB_SCHEMA}.schedule WHERE name = $1 AND key = ''`,
    parameters: [queue],
  }
  const { rows } = await execute(connection, statement)
  const row = rows[0]
  if (!row) return null
  return { cron: row.cron, intervalSeconds: row.seconds === null ? null : Number(row.seconds) }
}
