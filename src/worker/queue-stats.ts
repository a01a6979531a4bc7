import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { JOB_SCHEMA } from './queue.ts'

/**
 * Whether the role of a connection may keep pg-boss's history of queue sizes. pg-boss has a partition for
 * each day of it, which it creates and drops in the pass that also expires and deletes jobs: a role without
 * the right to do so that is told to keep the history would fail in every such pass from the third day on,
 * and expire nothing.
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
