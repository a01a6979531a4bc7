import { inspect } from 'node:util'
import { type PgBoss, policies } from 'pg-boss'
import { type Connection, execute } from '../database/connection.ts'
import { connectWithin } from '../database/deadline.ts'
import type { ConnectionPool, PooledClient } from '../database/pool.ts'
import { qualified } from '../database/schema-path.ts'
import {
  DriverFormatError,
  NoAnswerError,
  NotMigratedError,
  PoolSizeError,
  QueuePolicyError,
  QueueSchemaError,
} from '../errors.ts'
import { FLUSH_POLICY } from './queue-options.ts'
import { SCHEMA_VERSION } from './schema-version.ts'

export { SCHEMA_VERSION }

/*
 * What a worker needs but does not install: pg-boss's schema, the queue with its policy, and the table of marks.
 */

/** A flush holds a connection while the next job is sent over another one. */
const NEEDED_CONNECTIONS = 2

/** The longest wait for the connections of a pool that does not tell how many it may have, in ms. */
const CONNECTIONS_WITHIN_MS = 5_000

/**
 * Checks that a pool has connections enough. One that does not tell is asked for them.
 *
 * @throws {PoolSizeError} If it has not. The flush would wait for itself.
 */
export async function assertPoolSize(pool: ConnectionPool): Promise<void> {
  const { options } = pool as { options?: { max?: unknown } }
  if (typeof options?.max === 'number') {
    if (options.max < NEEDED_CONNECTIONS) throw new PoolSizeError(options.max, NEEDED_CONNECTIONS)
    return
  }
  const taken: PooledClient[] = []
  try {
    while (taken.length < NEEDED_CONNECTIONS) taken.push(await connectWithin(pool, CONNECTIONS_WITHIN_MS))
  } catch (error) {
    if (!(error instanceof NoAnswerError) || taken.length === 0) throw error
    throw new PoolSizeError(null, NEEDED_CONNECTIONS, { cause: error })
  } finally {
    for (const client of taken) client.release()
  }
}

/**
 * Checks that the driver reads values as pg-boss expects. A host may have replaced how it does.
 *
 * @throws {DriverFormatError} If it does not.
 */
export async function assertDriverFormat(connection: Connection): Promise<void> {
  const { rows } = await execute(connection, {
    sql: `SELECT 1::int4 AS "number", true AS "yesNo", '{"a":[1]}'::jsonb AS "json", 'x'::text AS "text"`,
    parameters: [],
  })
  const expected = inspect({ number: 1, yesNo: true, json: { a: [1] }, text: 'x' })
  const found = inspect(rows[0])
  if (found !== expected) throw new DriverFormatError(found, expected)
}

/**
 * Checks the schema before pg-boss does. pg-boss would refuse to start with an error that nobody can tell from others.
 *
 * @throws {NotMigratedError} If pg-boss is not installed, or its schema is older than this pg-boss.
 * @throws {QueueSchemaError} If its schema is newer.
 */
export async function assertSchema(boss: PgBoss): Promise<void> {
  if (!(await boss.isInstalled())) throw new NotMigratedError('pg-boss is not installed')
  const version = await assertSchemaNotNewer(boss)
  if (version < SCHEMA_VERSION) {
    throw new NotMigratedError(
      `the pg-boss schema has version ${version}, and version ${SCHEMA_VERSION} is needed`,
    )
  }
}

/**
 * Checks that the schema is not newer than this pg-boss. pg-boss itself would go on until a statement fails. pg-boss
 * must be installed.
 *
 * @returns The version of the schema.
 * @throws {QueueSchemaError} If the schema is newer than this pg-boss.
 */
export async function assertSchemaNotNewer(boss: PgBoss): Promise<number> {
  const version = (await boss.schemaVersion()) ?? 0
  if (version > SCHEMA_VERSION) throw new QueueSchemaError(version, SCHEMA_VERSION)
  return version
}

/**
 * Checks the policy of a queue.
 *
 * @throws {NotMigratedError} If there is no such queue.
 * @throws {QueuePolicyError} If it has another policy.
 */
export async function assertPolicy(
  boss: PgBoss,
  name: string,
  expected: string = FLUSH_POLICY,
): Promise<void> {
  const queue = await boss.getQueue(name)
  if (!queue) throw new NotMigratedError(`the pg-boss queue "${name}" does not exist`)
  const policy = queue.policy ?? policies.standard
  if (policy !== expected) throw new QueuePolicyError(name, policy, expected)
}

/**
 * Checks that the tables of a flush are there. A database that was migrated down, or that an older release migrated,
 * still has pg-boss and the queue. `workspace_usage` is not asked for: a worker may leave it out.
 *
 * @param schema The schema that they must be in. Default: any schema of `search_path`.
 * @throws {NotMigratedError} If one of them is missing.
 */
export async function assertMarksTable(connection: Connection, schema?: string): Promise<void> {
  // Each by itself, because Citus joins no tables that it does not know together.
  const tables = FLUSHED.map(name => `(SELECT true FROM ${qualified(schema, name)} LIMIT 0)`).join(', ')
  await execute(connection, { sql: `SELECT ${tables}`, parameters: [] })
}

const FLUSHED = [
  ...['pending_usage', 'pending_usage_witness', 'set_aside_usage', 'refused_usage', 'source_usage'],
  ...['pending_usage_reset', 'pending_usage_place', 'pending_usage_period', 'workspaces'],
]
