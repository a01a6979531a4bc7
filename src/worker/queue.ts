import { type Connection, execute, type Statement } from '../database/connection.ts'
import { NotMigratedError } from '../errors.ts'
import type { FlushResult } from '../flush/flush.ts'
import type { Refusal } from '../flush/refusal.ts'

/** The queue whose jobs flush the schema `public`. {@link flushQueues} names those of any schema. */
export const FLUSH_QUEUE = 'workspace-usage-flush'

/** The queue of flush jobs of the schema `public` that have failed for good. */
export const FAILED_FLUSH_QUEUE = 'workspace-usage-flush-failed'

/** The schema that pg-boss is installed in. */
export const JOB_SCHEMA = 'pgboss'

/** The queues of one schema. Each schema has its own, so that no worker takes jobs of another schema. */
export interface FlushQueues {
  /** The queue whose jobs flush. The pg-boss dashboard shows it. */
  flush: string
  /** The queue of flush jobs that have failed for good. Look for the reason. Later flushes take the marks. */
  failed: string
}

/**
 * Names the queues of a schema. Those of `public` have the plain names. Others end with the schema, as in
 * `workspace-usage-flush.sales`. pg-boss allows few characters in a name, so each other byte of the schema's name is
 * written as a dot and two hexadecimal digits.
 */
export function queuesOfSchema(schema: string): FlushQueues {
  if (schema === 'public') return { flush: FLUSH_QUEUE, failed: FAILED_FLUSH_QUEUE }
  const name = Array.from(Buffer.from(schema), byte => {
    const character = String.fromCharCode(byte)
    return /[\w-]/.test(character) ? character : `.${byte.toString(16).padStart(2, '0')}`
  }).join('')
  return { flush: `${FLUSH_QUEUE}.${name}`, failed: `${FAILED_FLUSH_QUEUE}.${name}` }
}

/**
 * Names the queues of the schema whose marks a connection flushes: where `search_path` finds `pending_usage`. If there
 * is no such table yet, it is the schema that `migrate` would create it in.
 *
 * @throws {NotMigratedError} If no schema of `search_path` exists.
 */
export async function flushQueues(connection: Connection): Promise<FlushQueues> {
  const statement: Statement<{ schema: string | null }> = {
    sql: `SELECT coalesce(
        (SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.oid = pg_catalog.to_regclass('pending_usage')),
        pg_catalog.current_schema())::text AS schema`,
    parameters: [],
  }
  const { rows } = await execute(connection, statement)
  const schema = rows[0]?.schema ?? null
  if (schema === null) throw new NotMigratedError('no schema of search_path exists')
  return queuesOfSchema(schema)
}

/**
 * The output of a finished job, in the dashboard and in {@link lastFlush}: the counts, and whether its batch was full.
 */
export interface FlushJobOutput extends Omit<FlushResult, 'emptied' | 'refusals'> {
  /**
   * True if the flush found that `pending_usage` was emptied. Marks that were not flushed by then are lost. Else
   * absent.
   */
  emptied?: boolean
  /** The first workspaces that the database refused in this flush, and why. Absent if there was none. */
  refusals?: Refusal[]
}

/** The last flush that committed. */
export interface LastFlush extends FlushJobOutput {
  completedAt: Date
}

/**
 * Returns the last flush that a worker completed. Null if there is none within about an hour, because pg-boss then
 * deletes finished jobs. A flush by hand is not a job, and is not found here.
 *
 * @throws {NotMigratedError} If pg-boss is not installed.
 */
export async function lastFlush(connection: Connection): Promise<LastFlush | null> {
  // The statements here are plain text. `workspace-usage status` would otherwise spend most of its time on loading
  // Kysely. Time and output are read as text that is formatted here, because a driver may be set to anything.
  const { flush } = await flushQueues(connection)
  const statement: Statement<{ output: string | null; completed_ms: string }> = {
    sql: `SELECT output::text, (extract(epoch FROM completed_on) * 1000)::bigint::text AS completed_ms
      FROM ${JOB_SCHEMA}.job
      WHERE name = $1 AND state = 'completed'
      ORDER BY completed_on DESC LIMIT 1`,
    parameters: [flush],
  }
  const { rows } = await execute(connection, statement)
  const row = rows[0]
  if (!row) return null
  return { completedAt: new Date(Number(row.completed_ms)), ...JSON.parse(row.output ?? '{}') }
}

/** A table of pg-boss, and what a worker may do to it beside reading. */
export interface JobTable {
  name: string
  writes: readonly string[]
}

/**
 * The tables that a worker may not write freely. The rows of "bam" are commands. An upgrade of pg-boss runs them as the
 * owner of its tables, so a role that can write "bam" can do all that the owner can. (A column of "queue" ends up in
 * such commands too, and a worker must insert there when it starts. So workers have fewer rights, but must be trusted.)
 */
const WRITES: Record<string, readonly string[]> = {
  bam: [],
  queue: ['INSERT', 'UPDATE'],
  version: ['UPDATE'],
}

const ALL_WRITES = ['INSERT', 'UPDATE', 'DELETE']

/**
 * Lists the tables of pg-boss. The daily partitions of its statistics are left out, because they are written through
 * their parent.
 *
 * @throws {NotMigratedError} If pg-boss is not installed.
 */
export async function jobTables(connection: Connection): Promise<JobTable[]> {
  const statement: Statement<{ name: string }> = {
    sql: `SELECT c.relname AS name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')
        AND NOT (c.relispartition AND c.relname LIKE $2)
      ORDER BY c.relname`,
    parameters: [JOB_SCHEMA, 'queue\\_stats\\_%'],
  }
  const { rows } = await execute(connection, statement)
  if (rows.length === 0) throw new NotMigratedError('pg-boss is not installed')
  return rows.map(({ name }) => ({ name, writes: WRITES[name] ?? ALL_WRITES }))
}
