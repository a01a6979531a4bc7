import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { sqlState } from '../database/sql-state.ts'
import { flushQueues, JOB_SCHEMA } from './queue.ts'

/** What pg-boss creates in its schema. Partitions are dropped with their tables. */
const JOB_TABLES = [
  ...['job_dependency', 'job', 'schedule', 'subscription', 'queue'],
  ...['queue_stats', 'bam', 'warning', 'version'],
]
const JOB_FUNCTIONS = [
  ...['create_queue', 'delete_queue', 'job_table_run_async', 'job_table_run'],
  ...['job_table_format', 'job_now'],
]
const JOB_TYPES = ['job_state']

/** What {@link removeQueue} did. */
export interface QueueRemoval {
  /** What was dropped, such as `pg-boss queue workspace-usage-flush`. */
  dropped: string[]
  /** Why pg-boss's schema stays. Null if it is gone, or was never there. */
  schemaStays: string | null
}

/**
 * Removes our queues with their jobs and the schedule. pg-boss's schema is removed too if it holds nothing else.
 *
 * @param transaction The caller's. Nothing is removed before it commits.
 */
export async function removeQueue(transaction: Connection): Promise<QueueRemoval> {
  if (!(await isInstalled(transaction))) return { dropped: [], schemaStays: null }
  const { ours, foreign } = await queues(transaction)
  const schemaStays =
    foreign.length > 0
      ? `it has other queues: ${foreign.join(', ')}`
      : await refusal(transaction, () => dropSchema(transaction))
  if (schemaStays !== null) await deleteQueues(transaction, ours)
  const dropped = ours.map(name => `pg-boss queue ${name}`)
  return { dropped: schemaStays === null ? [...dropped, `schema ${JOB_SCHEMA}`] : dropped, schemaStays }
}

/** pg-boss looks for the same table to see whether it is installed. */
async function isInstalled(connection: Connection): Promise<boolean> {
  const { rows } = await execute(
    connection,
    compile(sql`SELECT WHERE to_regclass(${`${JOB_SCHEMA}.version`}) IS NOT NULL`),
  )
  return rows.length > 0
}

/** The queues of our schema, and those of others. pg-boss's own queues, for its cron, are in neither list. */
async function queues(connection: Connection): Promise<{ ours: string[]; foreign: string[] }> {
  const { rows } = await execute(
    connection,
    compile(sql<{ name: string }>`
      SELECT name FROM ${inJobSchema('queue')} WHERE NOT starts_with(name, '__pgboss__') ORDER BY name`),
  )
  // A queue stands before its dead-letter queue.
  const own: string[] = Object.values(await flushQueues(connection))
  const names = rows.map(({ name }) => name)
  return {
    ours: own.filter(name => names.includes(name)),
    foreign: names.filter(name => !own.includes(name)),
  }
}

/**
 * Runs what pg-boss's `deleteQueue` runs. pg-boss itself would not start if the host uses another version of it. The
 * schedule is deleted with its queue. Statistics are not, so they are deleted here.
 */
async function deleteQueues(connection: Connection, names: readonly string[]): Promise<void> {
  for (const name of names) {
    await execute(connection, compile(sql`SELECT ${inJobSchema('delete_queue')}(${name})`))
  }
  await execute(
    connection,
    compile(sql`DELETE FROM ${inJobSchema('queue_stats')} WHERE name = ANY (${[...names]}::text[])`),
  )
}

/**
 * Drops by name and without CASCADE. So PostgreSQL refuses if an object of somebody else is there, or depends on it.
 */
async function dropSchema(connection: Connection): Promise<void> {
  const drops = [
    sql`DROP TABLE IF EXISTS ${list(JOB_TABLES)}`,
    sql`DROP FUNCTION IF EXISTS ${list(JOB_FUNCTIONS)}`,
    sql`DROP TYPE IF EXISTS ${list(JOB_TYPES)}`,
    sql`DROP SCHEMA ${sql.id(JOB_SCHEMA)}`,
  ]
  for (const drop of drops) await execute(connection, compile(drop))
}

/** Tries to drop. If PostgreSQL refuses, nothing is dropped, and its reason is returned. Otherwise null. */
async function refusal(transaction: Connection, drop: () => Promise<void>): Promise<string | null> {
  await execute(transaction, compile(sql`SAVEPOINT before_drop`))
  try {
    await drop()
    return null
  } catch (error) {
    // dependent_objects_still_exist, insufficient_privilege
    if (!['2BP01', '42501'].includes(sqlState(error) ?? '')) throw error
    await execute(transaction, compile(sql`ROLLBACK TO SAVEPOINT before_drop`))
    const { message, detail } = error as Error & { detail?: string }
    return [message, detail].filter(part => part !== undefined).join(': ')
  }
}

function list(names: readonly string[]): RawBuilder<unknown> {
  return sql.join(names.map(inJobSchema))
}

function inJobSchema(name: string): RawBuilder<unknown> {
  return sql.id(JOB_SCHEMA, name)
}
