import { sql, type Transaction } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { sqlState } from '../database/sql-state.ts'
import { SchemaChangeRefusedError } from '../errors.ts'
import { removeQueue } from '../worker/remove-queue.ts'
import { exclusively, type MigrateOptions } from './exclusive.ts'
import { migrationDatabase, RECORD_LOCK_TABLE, RECORD_TABLE, recordSchema, takeBackAll } from './migrator.ts'

/** Something that {@link uninstall} did not drop. */
export interface LeftBehind {
  /** Such as `table public.workspaces`. */
  object: string
  /** Why it is still there. */
  reason: string
}

/** What {@link uninstall} did. */
export interface UninstallResult {
  /** What was dropped, such as `table public.pending_usage`. Empty if nothing of this package was there. */
  dropped: string[]
  left: LeftBehind[]
}

/**
 * Removes everything of this package from the database: its tables, views and functions, the record of migrations, and
 * the pg-boss queues with their jobs and the schedule. pg-boss's schema is removed too if it holds nothing else. The
 * host's own `workspaces` is never dropped. A `workspaces` that this package created is dropped only if it is empty.
 *
 * All of this is one transaction. It can be repeated. Pending marks are lost, so stop the workers and the services that
 * mark first. Privileges on what is left stay. Take them back with `revokePrivileges` before.
 *
 * @throws {SchemaChangeRefusedError} If PostgreSQL refuses. The role is not the owner, or an object of the host depends
 *   on one of this package, or a lock is not free within 5 seconds. Nothing was changed then.
 * @throws {UnknownOptionError} If there is no such option.
 * @throws {InvalidOptionError} If the connection string is no URL.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function uninstall(options: MigrateOptions): Promise<UninstallResult> {
  return await exclusively(options, async (pool, logger) => {
    try {
      const result = await migrationDatabase(pool).transaction().execute(removeAll)
      for (const object of result.dropped) logger.info({ object }, 'dropped')
      for (const { object, reason } of result.left) logger.info({ object, reason }, 'left')
      return result
    } catch (error) {
      throw explainRefusal(error)
    }
  })
}

async function removeAll(transaction: Transaction<unknown>): Promise<UninstallResult> {
  // While a DROP waits, all later users of the table wait behind it. That includes the host's users of "workspaces".
  await execute(transaction, compile(sql`SET LOCAL lock_timeout = '5s'`))
  const schema = await recordSchema(transaction)
  const queue = await removeOwnQueues(transaction)
  if (schema === null) return queue
  const before = await objects(transaction)
  await takeBackAll(transaction)
  await execute(
    transaction,
    compile(sql`DROP TABLE ${sql.id(schema, RECORD_TABLE)}, ${sql.id(schema, RECORD_LOCK_TABLE)}`),
  )
  const after = await objects(transaction)
  return {
    dropped: [...before.filter(object => !after.includes(object)), ...queue.dropped],
    left: [...(await workspacesLeft(transaction)), ...queue.left],
  }
}

/** Removes the queues of this schema. Each other schema with this package has its own, and keeps them. */
async function removeOwnQueues(connection: Connection): Promise<UninstallResult> {
  const { dropped, schemaStays } = await removeQueue(connection)
  return { dropped, left: schemaStays === null ? [] : [{ object: 'schema pgboss', reason: schemaStays }] }
}

const RELATIONS = [
  ...['workspace_activity_by_source', 'workspace_activity', 'workspace_usage', 'pending_usage'],
  ...['pending_usage_witness', 'workspaces', RECORD_TABLE, RECORD_LOCK_TABLE],
]
const FUNCTIONS = ['usage_period_end', 'usage_period']

/** The objects of this package that exist, as `search_path` finds them. */
async function objects(connection: Connection): Promise<string[]> {
  const { rows } = await execute(
    connection,
    compile(sql<{ object: string }>`
      SELECT concat(CASE c.relkind WHEN 'v' THEN 'view ' ELSE 'table ' END, c.relnamespace::regnamespace, '.', name)
        AS object
      FROM unnest(${RELATIONS}::text[]) WITH ORDINALITY AS named (name, place)
      JOIN pg_class c ON c.oid = to_regclass(name)
      ORDER BY place`),
  )
  const functions = await execute(
    connection,
    compile(sql<{ object: string }>`
      SELECT concat('function ', p.pronamespace::regnamespace, '.', p.proname, '()') AS object
      FROM unnest(${FUNCTIONS}::text[]) AS name JOIN pg_proc p ON p.oid = to_regprocedure(name || '()')
      ORDER BY p.proname`),
  )
  return [...rows, ...functions.rows].map(({ object }) => object)
}

async function workspacesLeft(connection: Connection): Promise<LeftBehind[]> {
  const { rows } = await execute(
    connection,
    compile(sql<{ schema: string; ours: boolean }>`
      SELECT relnamespace::regnamespace::text AS schema,
        obj_description(oid, 'pg_class') IS NOT DISTINCT FROM 'Created by workspace-usage.' AS ours
      FROM pg_class WHERE oid = to_regclass('workspaces')`),
  )
  return rows.map(({ schema, ours }) => ({
    object: `table ${schema}.workspaces`,
    reason: ours ? 'it holds rows' : 'workspace-usage did not create it',
  }))
}

/** The remedies, by SQLSTATE. */
const REMEDIES: Record<string, string> = {
  '42501': 'Connect as the role that ran `workspace-usage migrate`, or as a superuser.', // insufficient_privilege
  '2BP01': 'Drop what depends on it first.', // dependent_objects_still_exist
  '55P03': 'Stop the workers and the services that mark, then repeat.', // lock_not_available
}

function explainRefusal(error: unknown): unknown {
  const remedy = REMEDIES[sqlState(error) ?? '']
  if (remedy === undefined) return error
  const { message, detail } = error as Error & { detail?: string }
  const reason = [message, detail].filter(part => part !== undefined).join(': ')
  return new SchemaChangeRefusedError(reason, remedy, { cause: error })
}
