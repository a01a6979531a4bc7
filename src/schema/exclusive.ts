import { isOtherNode } from '../database/distributed.ts'
import { explainDatabaseError } from '../database/explain-error.ts'
import { A_CONNECTION_STRING, createPool } from '../database/pool.ts'
import { A_SCHEMA } from '../database/schema-path.ts'
import { SettledPool } from '../database/settled-pool.ts'
import { NotCoordinatorError, StandbyError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { A_LOGGER, checkOptions, type OptionRules } from '../options.ts'
import { type LockedTransaction, underLock, type WithoutTable } from './migration-lock.ts'
import { migrationDatabase } from './migrator.ts'
import { usageSchema } from './record.ts'

/** Options of `migrateDown` and `uninstall`, and some of those of `migrate`. */
export interface SchemaOptions {
  /**
   * The URL of the database. Its role must have the right to create tables and a schema.
   */
  connectionString: string
  /**
   * The schema of the tables, whatever `search_path` is. `migrate` creates it if it is missing. If the
   * schema has no `workspaces` and `search_path` leads to one of yours, `migrate` adopts that through a view. Default:
   * the schema that `search_path` names.
   */
  schema?: string
  /** Logs each step. Default: no log. */
  logger?: Logger
}

/** What these options may be. */
export const SCHEMA_OPTIONS: OptionRules<SchemaOptions> = {
  connectionString: A_CONNECTION_STRING,
  schema: A_SCHEMA,
  logger: A_LOGGER,
}

/** A database while its schema is changed. */
export interface SchemaChange {
  /** Two connections, for statements outside the lock's transaction. The lock's own is a third. */
  database: SettledPool
  logger: Logger
  /** The schema of this package. */
  schema: string
  /** Whether that was named. Its statements find nothing in other schemas then. */
  isNamed: boolean
  /** Runs something in a transaction while no other migration of this schema runs. Others wait. */
  locked<Result>(
    withoutTable: WithoutTable,
    run: (locked: LockedTransaction) => Promise<Result>,
  ): Promise<Result>
}

/** A transaction may build an index. TCP keep-alive and the checks of the lock notice a connection that went silent. */
const ANSWER_TIMEOUT_MS = 24 * 3_600_000

/**
 * Connects for a change of the schema.
 *
 * @throws {UnknownOptionError} If there is no such option.
 * @throws {InvalidOptionError} If an option is not what it may be, or `search_path` names no schema that exists.
 * @throws {StandbyError} On a standby, or in a read-only session.
 * @throws {NotCoordinatorError} If the tables are distributed, and this is not the coordinator.
 * @throws {MigrationLockLostError} If the connection of the lock breaks.
 */
export async function changeSchema<Result>(
  options: SchemaOptions,
  run: (change: SchemaChange) => Promise<Result>,
): Promise<Result> {
  checkOptions(options, SCHEMA_OPTIONS)
  const { connectionString, schema: named, logger = SILENT } = options
  const settings = {
    applicationName: 'workspace-usage migrate',
    logger,
    statementTimeoutMs: ANSWER_TIMEOUT_MS,
  }
  // pg-boss may hold two while indexes wait for old transactions.
  const pool = createPool(connectionString, { ...settings, max: 4 })
  const lockPool = createPool(connectionString, { ...settings, max: 1 })
  try {
    const database = new SettledPool(pool, named)
    const schema = named ?? (await usageSchema(database))
    const isNamed = named !== undefined
    if (await isOtherNode(database)) throw new NotCoordinatorError()
    const { db, brokenBy } = migrationDatabase(lockPool)
    return await run({
      database,
      logger,
      schema,
      isNamed,
      locked: (withoutTable, work) =>
        underLock(db, { schema, isNamed, withoutTable, logger, brokenBy }, work),
    })
  } catch (error) {
    const explained = explainDatabaseError(error)
    // "Not migrated" would not help somebody who is migrating.
    throw explained instanceof StandbyError ? explained : error
  } finally {
    await Promise.all([pool.end(), lockPool.end()])
  }
}

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} }
