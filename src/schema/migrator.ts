import { promises as fs } from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { Kysely, PostgresAdapter, PostgresDialect, type PostgresPool, sql, type Transaction } from 'kysely'
import { FileMigrationProvider, type MigrationResultSet, Migrator, NO_MIGRATIONS } from 'kysely/migration'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import type { ConnectionPool } from '../database/pool.ts'
import { InvalidOptionError } from '../errors.ts'

/** Where Kysely records which migrations have run. Its default name may be in use by the host's own migrations. */
export const RECORD_TABLE = 'workspace_usage_migration'

/** Kysely creates it beside the record. */
export const RECORD_LOCK_TABLE = `${RECORD_TABLE}_lock`

const MIGRATION_FOLDER = fileURLToPath(new URL('../../migrations', import.meta.url))

/** A Kysely instance that migrations can run on. The pool stays the caller's. */
export function migrationDatabase(pool: ConnectionPool): Kysely<unknown> {
  return new Kysely<unknown>({ dialect: new LocklessDialect({ pool: pool as unknown as PostgresPool }) })
}

/**
 * Switches off Kysely's own lock. That lock belongs to a session, and a pooler may give the session to somebody else.
 * If a migration fails inside the caller's transaction, its release hides the error. {@link file://./exclusive.ts}
 * locks instead.
 */
class LocklessDialect extends PostgresDialect {
  override createAdapter(): PostgresAdapter {
    return new LocklessAdapter()
  }
}

class LocklessAdapter extends PostgresAdapter {
  override async acquireMigrationLock(): Promise<void> {}
  override async releaseMigrationLock(): Promise<void> {}
}

/** Runs the migrations that have not run yet, in one transaction. Returns their names, in order. */
export async function runMigrations(db: Kysely<unknown>): Promise<string[]> {
  return namesOf(await (await migratorOn(db)).migrateToLatest())
}

/** Takes back the newest migration. Returns its name, or nothing if none was left. */
export async function takeBackNewest(db: Kysely<unknown>): Promise<string[]> {
  return namesOf(await (await migratorOn(db)).migrateDown())
}

/** Takes back all migrations, as part of the transaction. Returns their names, newest first. */
export async function takeBackAll(transaction: Transaction<unknown>): Promise<string[]> {
  return namesOf(await (await migratorOn(transaction)).migrateTo(NO_MIGRATIONS))
}

/** The schema of the record of migrations, as `search_path` finds it. Null if there is no record. */
export async function recordSchema(connection: Connection): Promise<string | null> {
  const { rows } = await execute(
    connection,
    compile(sql<{ schema: string }>`
      SELECT n.nspname AS schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid = to_regclass(${RECORD_TABLE})`),
  )
  return rows[0]?.schema ?? null
}

async function migratorOn(db: Kysely<unknown>): Promise<Migrator> {
  return new Migrator({
    db,
    provider: new FileMigrationProvider({
      fs,
      path,
      migrationFolder: MIGRATION_FOLDER,
      import: file => import(pathToFileURL(file).href),
    }),
    migrationTableName: RECORD_TABLE,
    migrationLockTableName: RECORD_LOCK_TABLE,
    // Otherwise Kysely would use a record of any schema, also of one that is not in `search_path`.
    migrationTableSchema: (await recordSchema(db)) ?? (await currentSchema(db)),
  })
}

function namesOf({ error, results }: MigrationResultSet): string[] {
  if (error) throw error
  return (results ?? []).map(result => result.migrationName)
}

/** @throws {InvalidOptionError} If `search_path` names no schema that exists. */
async function currentSchema(connection: Connection): Promise<string> {
  const { rows } = await execute(
    connection,
    compile(sql<{ schema: string | null; search_path: string }>`
      SELECT current_schema() AS schema, current_setting('search_path') AS search_path`),
  )
  const { schema, search_path: searchPath } = rows[0]!
  if (schema === null) {
    throw new InvalidOptionError('search_path', searchPath, 'a path with a schema that exists')
  }
  return schema
}
