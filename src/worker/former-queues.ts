import type { PgBoss } from 'pg-boss'
import { type Connection, execute } from '../database/connection.ts'
import { FLUSH_QUEUE, type FlushQueues, PUBLIC_QUEUES } from './queue.ts'
import { type FlushSchedule, flushSchedule } from './schedule.ts'

/*
 * In older releases all schemas shared the queues of `public`. A schema that is migrated gets queues of its own.
 */

/** Returns the schedule of a queue. A queue that is new continues with the schedule that its schema used before. */
export async function presentSchedule(
  connection: Connection,
  { flush }: FlushQueues,
): Promise<FlushSchedule | null> {
  return (await flushSchedule(connection, flush)) ?? (await flushSchedule(connection, FLUSH_QUEUE))
}

/** Removes the queues of `public` if no schema uses them any more. Pending marks stay where they are. */
export async function removeFormerQueues(
  boss: PgBoss,
  connection: Connection,
  { flush }: FlushQueues,
): Promise<void> {
  if (flush === FLUSH_QUEUE || (await isInstalledInPublic(connection))) return
  for (const name of PUBLIC_QUEUES) {
    if (await boss.getQueue(name)) await boss.deleteQueue(name)
  }
}

async function isInstalledInPublic(connection: Connection): Promise<boolean> {
  const { rows } = await execute(connection, {
    sql: "SELECT WHERE to_regclass('public.pending_usage') IS NOT NULL",
    parameters: [],
  })
  return rows.length > 0
}
