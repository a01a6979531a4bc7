import { type Kysely, sql, type Transaction } from 'kysely'
import { removeDistributed } from '../citus/remove.ts'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { isDistributed } from '../database/distributed.ts'
import { removeQueue } from '../worker/remove-queue.ts'
import { changeSchema, type SchemaOptions } from './exclusive.ts'
import { takeBackAll } from './migrator.ts'
import { dropSchemaIfOurs, schemaExists } from './own-schema.ts'
import { isRecorded, RECORD_LOCK_TABLE, RECORD_TABLE } from './record.ts'
import { explainingRefusals } from './refusal.ts'

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
 * host's own `workspaces` is never dropped, nor is a table that was adopted: only the view on it goes. A `workspaces` that
 * this package created is dropped only if it is empty, and so is a schema that `migrate` created.
 *
 * All of this is one transaction. It can be repeated. Pending marks are lost, so stop the workers and the services that
 * mark first. Privileges on what is left stay. Take them back with `revokePrivileges` before.
 *
 * @throws {SchemaChangeRefusedError} If PostgreSQL refuses. The role is not the owner, or an object of the host depends
 *   on one of this package, or a lock is not free within 5 seconds. Nothing was changed then.
 * @throws {UnknownOptionError} If there is no such option.
 * @throws {InvalidOptionError} If the connection string is no URL, or `search_path` names no schema that exists.
 * @throws {MigrationLockLostError} If the connection breaks. Nothing was changed then.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function uninstall(options: SchemaOptions): Promise<UninstallResult> {
  return await changeSchema(options, async ({ database, schema, isNamed, logger, locked }) => {
    if (isNamed && !(await schemaExists(database, schema))) return { dropped: [], left: [] }
    const result = await explainingRefusals(schema, () =>
      locked('go on', ({ transaction }) => removeAll(transaction, schema)),
    )
    for (const object of result.dropped) logger.info({ object }, 'dropped')
    for (const { object, reason } of result.left) logger.info({ object, reason }, 'left')
    return result
  })
}

async function removeAll(transaction: Transaction<unknown>, schema: string): Promise<UninstallResult> {
  // While a DROP waits, all later users of the table wait behind it. That includes the host's users of "workspaces".
  await execute(transaction, compile(sql`SET LOCAL lock_timeout = '5s'`))
  const queue = await removeOwnQueues(transaction)
  if (!(await isRecorded(transaction, schema))) return queue
  const before = await objectsIn(transaction, schema)
  if (await isDistributed(transaction))
    await removeDistributed(transaction as unknown as Kysely<never>, schema)
  else await takeBackAll(transaction, schema)
  await execute(
    transaction,
    compile(sql`DROP TABLE ${sql.id(schema, RECORD_TABLE)}, ${sql.id(schema, RECORD_LOCK_TABLE)}`),
  )
  const after = new Set(await objectsIn(transaction, schema))
  const left = await workspacesLeft(transaction)
  const place = `schema ${schema}`
  const end = await dropSchemaIfOurs(transaction, schema)
  return {
    dropped: [
      ...before.filter(object => !after.has(object)),
      ...(end === 'dropped' ? [place] : []),
      ...queue.dropped,
    ],
    left: [
      ...left,
      ...(end === 'not empty' ? [{ object: place, reason: 'it holds something else' }] : []),
      ...queue.left,
    ],
  }
}

/** Removes the queues of this schema. Each other schema with this package has its own, and keeps them. */
async function removeOwnQueues(connection: Connection): Promise<UninstallResult> {
  const { dropped, schemaStays } = await removeQueue(connection)
  return { dropped, left: schemaStays === null ? [] : [{ object: 'schema pgboss', reason: schemaStays }] }
}

/** All objects of a schema, whosever they are. So a new object of a migration needs no entry in any list. */
async function objectsIn(connection: Connection, schema: string): Promise<string[]> {
  const { rows } = await execute(
    connection,
    compile(sql<{ object: string }>`
      SELECT object FROM (
        SELECT
          CASE relkind WHEN 'v' THEN 1 WHEN 'S' THEN 3 ELSE 2 END AS place,
          format('%s %I.%I',
            CASE relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' WHEN 'm' THEN 'materialized view' ELSE 'table' END,
            ${schema}::text, relname) AS object
        FROM pg_class
        WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = ${schema})
          AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
        UNION ALL
        SELECT 4, format('function %I.%I(%s)', ${schema}::text, proname, pg_get_function_identity_arguments(oid))
        FROM pg_proc WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = ${schema})
        UNION ALL
        SELECT 5, format('type %I.%I', ${schema}::text, typname) FROM pg_type
        WHERE typnamespace = (SELECT oid FROM pg_namespace WHERE nspname = ${schema}) AND typtype IN ('d', 'e', 'r')
      ) objects
      ORDER BY place, object COLLATE "C"`),
  )
  return rows.map(({ object }) => object)
}

async function workspacesLeft(connection: Connection): Promise<LeftBehind[]> {
  const { rows } = await execute(
    connection,
    compile(sql<{ schema: string; ours: boolean; kind: string }>`
      SELECT CASE relkind WHEN 'v' THEN 'view' ELSE 'table' END AS kind, relnamespace::regnamespace::text AS schema,
        obj_description(oid, 'pg_class') IS NOT DISTINCT FROM 'Created by workspace-usage.' AS ours
      FROM pg_class WHERE oid = to_regclass('workspaces')`),
  )
  return rows.map(({ schema, ours, kind }) => ({
    object: `${kind} ${schema}.workspaces`,
    reason: ours ? 'it holds rows' : 'workspace-usage did not create it',
  }))
}
