import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { JOB_SCHEMA } from './queue.ts'

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
