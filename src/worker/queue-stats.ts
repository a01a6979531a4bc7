import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { JOB_SCHEMA } from './queue.ts'

/**
 * Whether the role of a connection may keep pg-boss's history of queue sizes. pg-boss creates and drops a partition for
 * each day, in the pass that also expires and deletes jobs. A role without the right to do so must not keep the history:
 * from the third day on, every such pass would fail, and nothing would expire.
 *
 * False as well where pg-boss is not installed.
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
