import { sql } from 'kysely'
import type { PgBoss } from 'pg-boss'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { endsWithin } from './ends-within.ts'
import { JOB_SCHEMA } from './queue.ts'

/** The longest wait for the first counts, in ms. */
const FIRST_STATS_TIMEOUT_MS = 2_000

/**
 * Tells whether the role of a connection may keep pg-boss's history of queue sizes. For that history pg-boss creates
 * and drops a partition each day, in the same pass that expires and deletes jobs. Without the right to do so, each such
 * pass would fail from the third day on, and no job would expire. False if pg-boss is not installed.
 */
export async function mayKeepQueueStats(connection: Connection): Promise<boolean> {
  const { rows } = await execute(
    connection,
    compile(sql<{ may: boolean }>`
      SELECT has_schema_privilege(n.oid, 'CREATE') AND pg_has_role(c.relowner, 'USAGE') AS may
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = ${JOB_SCHEMA} AND c.relname = 'queue_stats'`),
  )
  return rows[0]?.may ?? false
}

/**
 * Lets pg-boss count the jobs of a queue now. It counts each minute, the first time a minute after the start, and until
 * then the dashboard of a new database shows zeros. It takes no longer than two seconds, and never rejects: pg-boss
 * tells what is wrong when it counts the next time. It counts no more than once a minute, whoever asks.
 */
export async function writeFirstStats(boss: Pick<PgBoss, 'supervise'>, queue: string): Promise<void> {
  const counting = boss.supervise(queue).catch(() => {})
  await endsWithin(counting, FIRST_STATS_TIMEOUT_MS)
}
