import { getMigrationPlans, PgBoss } from 'pg-boss'
import { type Connection, execute, type Statement } from '../database/connection.ts'
import type { SettledPool } from '../database/settled-pool.ts'
import { QueueSchemaError, QueueSchemaUnknownError } from '../errors.ts'
import { JOB_SCHEMA } from './queue.ts'
import { SCHEMA_VERSION } from './requirements.ts'

/**
 * Checks that pg-boss can install or upgrade its schema. Nothing is changed. `migrate` asks before it creates anything.
 *
 * @throws {QueueSchemaError} If the schema is newer than this pg-boss, or too old for an upgrade in one step.
 * @throws {QueueSchemaUnknownError} If the schema tells no version and is not that of this pg-boss.
 */
export async function assertQueueUpgradable(database: SettledPool): Promise<void> {
  const version = await recordedVersion(database)
  if (version === 'not installed') return
  if (version === 'missing') {
    if (await driftsFromThis(database)) throw new QueueSchemaUnknownError(SCHEMA_VERSION)
    return
  }
  if (version > SCHEMA_VERSION || (version < SCHEMA_VERSION && !isUpgradable(version))) {
    throw new QueueSchemaError(version, SCHEMA_VERSION)
  }
}

/**
 * Records the version of pg-boss's schema if there is none, as in a dump without rows. pg-boss would neither upgrade
 * such a schema nor work with it. It must have passed {@link assertQueueUpgradable}.
 */
export async function restoreVersion(connection: Connection): Promise<void> {
  if ((await recordedVersion(connection)) !== 'missing') return
  await execute(connection, {
    sql: `INSERT INTO ${JOB_SCHEMA}.version (version) VALUES ($1)`,
    parameters: [SCHEMA_VERSION],
  })
}

async function recordedVersion(connection: Connection): Promise<number | 'missing' | 'not installed'> {
  const installed = await execute(connection, {
    sql: `SELECT WHERE to_regclass('${JOB_SCHEMA}.version') IS NOT NULL`,
    parameters: [],
  })
  if (installed.rows.length === 0) return 'not installed'
  const statement: Statement<{ version: string }> = {
    sql: `SELECT version::text FROM ${JOB_SCHEMA}.version`,
    parameters: [],
  }
  const { rows } = await execute(connection, statement)
  return rows.length === 0 ? 'missing' : Number(rows[0]!.version)
}

/** pg-boss makes no plan for a version from which it can't upgrade. */
function isUpgradable(version: number): boolean {
  try {
    getMigrationPlans(JOB_SCHEMA, version)
    return true
  } catch {
    return false
  }
}

async function driftsFromThis(database: SettledPool): Promise<boolean> {
  const boss = new PgBoss({ db: database, schedule: false, supervise: false })
  const { ok } = await boss.detectSchemaDrift()
  return !ok
}
