import { createRequire } from 'node:module'
import { type PgBoss, policies } from 'pg-boss'
import { type Connection, execute } from '../database/connection.ts'
import { NotMigratedError, QueuePolicyError, QueueSchemaError } from '../errors.ts'

/*
 * What a worker needs but does not install: pg-boss's schema, the queue with its policy, and the table of marks.
 */

/**
 * At most one job is queued, and any number are active. Row locks make flushes that overlap safe, so the active job of
 * a killed worker blocks nobody. With `exclusive` or `stately` the next flush would wait until that job expires.
 */
export const FLUSH_POLICY = policies.short

const pgBoss = createRequire(import.meta.url)('pg-boss/package.json') as { pgboss: { schema: number } }

/** The schema version of this pg-boss. Its API does not tell it, and pg-boss itself reads it from its package.json. */
const SCHEMA_VERSION = pgBoss.pgboss.schema

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
 * Checks the policy of the flush queue.
 *
 * @throws {NotMigratedError} If there is no flush queue.
 * @throws {QueuePolicyError} If it has another policy.
 */
export async function assertPolicy(boss: PgBoss, name: string): Promise<void> {
  const queue = await boss.getQueue(name)
  if (!queue) throw new NotMigratedError(`the pg-boss queue "${name}" does not exist`)
  const policy = queue.policy ?? policies.standard
  if (policy !== FLUSH_POLICY) throw new QueuePolicyError(name, policy, FLUSH_POLICY)
}

/**
 * Checks that marks have their table. A database that was migrated down still has pg-boss and the queue.
 *
 * @throws {NotMigratedError} If there is no `pending_usage`.
 */
export async function assertMarksTable(connection: Connection): Promise<void> {
  await execute(connection, { sql: 'SELECT FROM pending_usage LIMIT 0', parameters: [] })
}
