import { promises as fs } from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { Kysely, PostgresDialect, type PostgresPool } from 'kysely'
import { FileMigrationProvider, Migrator } from 'kysely/migration'
import { explainDatabaseError } from '../database/connection.ts'
import { type ConnectionPool, createPool } from '../database/pool.ts'
import { InvalidOptionError, StandbyError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { installQueue, type QueueInstallation } from '../worker/install-queue.ts'
import { assertWorkspacesAdoptable } from './adoption.ts'

/** Taken for the whole of a migration, Kysely's and pg-boss's; any other number would do as well. */
const MIGRATION_LOCK = '7023470895112047'

/** Beside the host's own `kysely_migration`, which Kysely would take for ours. */
const MIGRATION_TABLE = 'workspace_usage_migration'

const MIGRATION_FOLDER = fileURLToPath(new URL('../../migrations', import.meta.url))

/** Options of {@link migrate} and {@link migrateDown}. */
export interface MigrateOptions {
  /** The database, as a role that may create tables and a schema. `search_path` says where the tables go. */
  connectionString: string
  /** Told of each step. Default: nobody. */
  logger?: Logger
}

/** What {@link migrate} did. */
export interface MigrateResult {
  /** Migrations that ran just now, in order; empty if the schema was up to date. */
  applied: string[]
  queue: QueueInstallation
}

/**
 * Brings the database up to date: this package's tables, pg-boss's schema, the queues and the schedule. Safe to
 * repeat, and from several machines at once: the later ones wait, then find everything done.
 *
 * @throws {WorkspacesTableError} If a `workspaces` exists that can't be adopted; nothing was created then.
 * @throws {QueuePolicyError} If the flush queue exists with another policy.
 */
export async function migrate(options: MigrateOptions): Promise<MigrateResult> {
  return await exclusively(options, async (pool, logger) => {
    await assertWorkspacesAdoptable(pool)
    const applied = await runMigrator(pool, migrator => migrator.migrateToLatest())
    for (const name of applied) logger.info({ migration: name }, 'migrated')
    const queue = await installQueue(pool, logger)
    return { applied, queue }
  })
}

/**
 * Takes back the newest migration. Drops what that one created, pending marks and use by source included; pg-boss's
 * schema stays, and so does a `workspaces` that holds rows. Stop the workers first.
 *
 * @returns The migration taken back, or null if there was none left.
 */
export async function migrateDown(options: MigrateOptions): Promise<string | null> {
  return await exclusively(options, async pool => {
    const [reverted] = await runMigrator(pool, migrator => migrator.migrateDown())
    return reverted ?? null
  })
}

async function runMigrator(
  pool: ConnectionPool,
  run: (migrator: Migrator) => ReturnType<Migrator['migrateToLatest']>,
): Promise<string[]> {
  const schema = await migrationTableSchema(pool)
  const migrator = new Migrator({
    db: new Kysely<unknown>({ dialect: new PostgresDialect({ pool: pool as unknown as PostgresPool }) }),
    provider: new FileMigrationProvider({
      fs,
      path,
      migrationFolder: MIGRATION_FOLDER,
      import: file => import(pathToFileURL(file).href),
    }),
    migrationTableName: MIGRATION_TABLE,
    migrationLockTableName: `${MIGRATION_TABLE}_lock`,
    migrationTableSchema: schema,
  })
  const { error, results } = await run(migrator)
  if (error) throw error
  return (results ?? []).map(result => result.migrationName)
}

/**
 * Where the record of migrations is, or goes. Left to itself Kysely takes a record in any schema of the database for
 * this one's, also one that `search_path` does not lead to.
 */
async function migrationTableSchema(pool: ConnectionPool): Promise<string> {
  const { rows } = await pool.query(
    `SELECT coalesce(
      (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass($1)), current_schema()
    ) AS schema`,
    [MIGRATION_TABLE],
  )
  const { schema } = rows[0] as { schema: string | null }
  if (schema === null) {
    throw new InvalidOptionError('search_path', await searchPath(pool), 'a path with a schema that exists')
  }
  return schema
}

async function searchPath(pool: ConnectionPool): Promise<string> {
  const { rows } = await pool.query('SHOW search_path')
  return (rows[0] as { search_path: string }).search_path
}

/**
 * Runs under a lock of the database. A transaction's lock and not a session's, so that it works through a pooler;
 * Kysely's own lock ends before pg-boss begins, and two first runs can both create Kysely's tables.
 */
async function exclusively<Result>(
  options: MigrateOptions,
  run: (pool: ConnectionPool, logger: Logger) => Promise<Result>,
): Promise<Result> {
  const { connectionString, logger = SILENT } = options
  const pool = createPool(connectionString, { applicationName: 'workspace-usage migrate', max: 4, logger })
  try {
    const client = await pool.connect()
    try {
      await client.query('BEGIN')
      await client.query('SET LOCAL idle_in_transaction_session_timeout = 0')
      const { rows } = await client.query('SELECT pg_try_advisory_xact_lock($1) AS taken', [MIGRATION_LOCK])
      if (!(rows[0] as { taken: boolean }).taken) {
        logger.info({}, 'another migration of this database is running; waiting for it')
        await client.query('SELECT pg_advisory_xact_lock($1)', [MIGRATION_LOCK])
      }
      const result = await run(pool, logger)
      await client.query('COMMIT')
      return result
    } catch (error) {
      const explained = explainDatabaseError(error)
      // "Not migrated" is no news here.
      throw explained instanceof StandbyError ? explained : error
    } finally {
      // Ends the transaction as well, if something threw before it did.
      client.release(true)
    }
  } finally {
    await pool.end()
  }
}

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} }
