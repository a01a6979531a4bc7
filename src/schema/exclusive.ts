import { explainDatabaseError } from '../database/explain-error.ts'
import { A_CONNECTION_STRING, type ConnectionPool, createPool } from '../database/pool.ts'
import { StandbyError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { A_LOGGER, checkOptions, type OptionRules } from '../options.ts'

/** The key of the advisory lock that is held during a whole run, pg-boss's part included. The number is arbitrary. */
const MIGRATION_LOCK = '7023470895112047'

/** Options of `migrate`, `migrateDown` and `uninstall`. */
export interface MigrateOptions {
  /**
   * The URL of the database. Its role must have the right to create tables and a schema. The tables are in the schema
   * that `search_path` names.
   */
  connectionString: string
  /** Logs each step. Default: no log. */
  logger?: Logger
}

/** What the options of `migrate`, `migrateDown` and `uninstall` may be. */
export const MIGRATE_OPTIONS: OptionRules<MigrateOptions> = {
  connectionString: A_CONNECTION_STRING,
  logger: A_LOGGER,
}

/**
 * Runs something while no other migration of this database runs. Others wait. The lock belongs to a transaction, not to
 * a session, so it works through a pooler.
 *
 * @throws {UnknownOptionError} If there is no such option.
 * @throws {InvalidOptionError} If an option is not what it may be.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function exclusively<Result>(
  options: MigrateOptions,
  run: (pool: ConnectionPool, logger: Logger) => Promise<Result>,
): Promise<Result> {
  checkOptions(options, MIGRATE_OPTIONS)
  const { connectionString, logger = SILENT } = options
  const pool = createPool(connectionString, { applicationName: 'workspace-usage migrate', max: 4, logger })
  try {
    return await underLock(pool, logger, () => run(pool, logger))
  } catch (error) {
    const explained = explainDatabaseError(error)
    // "Not migrated" would not help somebody who is migrating.
    throw explained instanceof StandbyError ? explained : error
  } finally {
    await pool.end()
  }
}

async function underLock<Result>(
  pool: ConnectionPool,
  logger: Logger,
  run: () => Promise<Result>,
): Promise<Result> {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    await client.query('SET LOCAL idle_in_transaction_session_timeout = 0')
    const { rows } = await client.query('SELECT pg_try_advisory_xact_lock($1) AS taken', [MIGRATION_LOCK])
    if (!(rows[0] as { taken: boolean }).taken) {
      logger.info({}, 'another migration of this database is running; waiting for it')
      await client.query('SELECT pg_advisory_xact_lock($1)', [MIGRATION_LOCK])
    }
    const result = await run()
    await client.query('COMMIT')
    return result
  } finally {
    // The connection is closed, so the transaction ends even after an error.
    client.release(true)
  }
}

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} }
