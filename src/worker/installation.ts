import { type PgBoss, policies } from 'pg-boss'
import pgBossPackage from 'pg-boss/package.json' with { type: 'json' }
import { type Connection, execute } from '../database/connection.ts'
import { NotMigratedError, QueuePolicyError, QueueSchemaError } from '../errors.ts'
import { FLUSH_QUEUE } from './queue.ts'

/*
 * What a worker relies on and does not install: pg-boss's schema, the queue with its policy, and the table of marks.
 */

/**
 * One job queued, any number active. Row locks make overlapping flushes safe, so the active job of a killed worker
 * blocks nobody. With `exclusive` or `stately`, the next flush would wait for that job to expire.
 */
export const FLUSH_POLICY = policies.short

/** The version of the schema that this pg-boss works with. It is in no API, but pg-boss reads it from there itself. */
const SCHEMA_VERSION = pgBossPackage.pgboss.schema

/**
 * pg-boss refuses to start on a schema of another version, with an error that can't be told from any other.
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
 * On a schema that is newer than it, pg-boss upgrades nothing and goes on, until a statement fails. Needs a pg-boss that
 * is installed.
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
 * @throws {NotMigratedError} If there is no flush queue.
 * @throws {QueuePolicyError} If it has another policy.
 */
export async function assertPolicy(boss: PgBoss): Promise<void> {
  const queue = await boss.getQueue(FLUSH_QUEUE)
  if (!queue) throw new NotMigratedError(`the pg-boss queue "${FLUSH_QUEUE}" does not exist`)
  const policy = queue.policy ?? policies.standard
  if (policy !== FLUSH_POLICY) throw new QueuePolicyError(FLUSH_QUEUE, policy, FLUSH_POLICY)
}

/**
 * A database that was migrated down still has pg-boss and the queue.
 *
 * @throws {NotMigratedError} If there is no `pending_usage`.
 */
export async function assertMarksTable(connection: Connection): Promise<void> {
  await execute(connection, { sql: 'SELECT FROM pending_usage LIMIT 0', parameters: [] })
}
