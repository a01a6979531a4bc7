import { type Connection, execute, type Statement } from '../database/connection.ts'
import { NotMigratedError } from '../errors.ts'
import type { FlushResult } from '../flush/flush.ts'
import type { Refusal } from '../flush/refusal.ts'
import type { UsageReset } from '../flush/reset.ts'
import type { ShardsLeft } from '../flush/shards-left.ts'

export type { ResetReason } from '../flush/reset.ts'

/** The queue whose jobs flush the schema `public`. {@link flushQueues} names those of any schema. */
export const FLUSH_QUEUE = 'workspace-usage-flush'

/** The queue of flush jobs of the schema `public` that have failed for good. */
export const FAILED_FLUSH_QUEUE = 'workspace-usage-flush-failed'

/** The queue whose jobs stop idle workspaces of the schema `public`. */
export const REAP_QUEUE = 'workspace-usage-reap'

/** The queue whose jobs clear old history of the schema `public`. */
export const HISTORY_QUEUE = 'workspace-usage-history'

/** The schema that pg-boss is installed in. */
export const JOB_SCHEMA = 'pgboss'

/** The queues of one schema. Each schema has its own, so that no worker takes jobs of another schema. */
export interface FlushQueues {
  /** The queue whose jobs flush. The pg-boss dashboard shows it. */
  flush: string
  /** The queue of flush jobs that have failed for good. Look for the reason. Later flushes take the marks. */
  failed: string
  /** The queue whose jobs stop idle workspaces, if a reaper was started. The output of a job has its counts. */
  reap: string
  /** The queue whose jobs clear old history, once a day. */
  history: string
}

/**
 * The queues of the schema `public`. All that installs, names or removes queues goes by this list. A queue stands before
 * the one that is its dead-letter queue.
 */
const QUEUES: FlushQueues = {
  flush: FLUSH_QUEUE,
  failed: FAILED_FLUSH_QUEUE,
  reap: REAP_QUEUE,
  history: HISTORY_QUEUE,
}

/** The names of all queues of `public`, in the order in which they may be deleted. */
export const PUBLIC_QUEUES: readonly string[] = Object.values(QUEUES)

/**
 * Names the queues of a schema. Those of `public` have the plain names. Others end with the schema, as in
 * `workspace-usage-flush.sales`. pg-boss allows few characters in a name, so each other byte of the schema's name is
 * written as a dot and two hexadecimal digits.
 */
export function queuesOfSchema(schema: string): FlushQueues {
  if (schema === 'public') return { ...QUEUES }
  const name = Array.from(Buffer.from(schema), byte => {
    const character = String.fromCharCode(byte)
    return /[\w-]/.test(character) ? character : `.${byte.toString(16).padStart(2, '0')}`
  }).join('')
  const named = Object.entries(QUEUES).map(([use, queue]) => [use, `${queue}.${name}`])
  return Object.fromEntries(named) as FlushQueues
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
 * The output of a finished job, as the dashboard shows it: the counts, and whether its batch was full.
 */
export interface FlushJobOutput extends Omit<FlushResult, 'emptied' | 'reset' | 'refusals' | 'shardsLeft'> {
  /**
   * True if the flush found that `pending_usage` was emptied. Marks that were not flushed by then are lost. Else
   * absent.
   */
  emptied?: boolean
  /** Why and since when marks are missing, if this flush has noticed it. Its times are text. Else absent. */
  reset?: Pick<UsageReset, 'reason' | 'nodes'> & { completeSince: string; flushedUntil: string | null }
  /** The first workspaces that the database refused in this flush, and why. Absent if there was none. */
  refusals?: Refusal[]
  /** The shards of a distributed database that could not be looked at. Absent if there was none. */
  shardsLeft?: ShardsLeft[]
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
    sql: `SELECT c.relname::text AS name
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
