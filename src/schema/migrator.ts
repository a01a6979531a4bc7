import { promises as fs } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { Kysely, PostgresAdapter, PostgresDialect, type PostgresPool, type Transaction } from 'kysely'
import {
  FileMigrationProvider,
  type Migration,
  type MigrationProvider,
  type MigrationResultSet,
  Migrator,
  NO_MIGRATIONS,
} from 'kysely/migration'
import { execute } from '../database/connection.ts'
import { connectWithin } from '../database/deadline.ts'
import type { ConnectionPool } from '../database/pool.ts'
import { RECORD_LOCK_TABLE } from './record.ts'
import { MIGRATION_FOLDER, RECORD_TABLE } from './record-names.ts'

const CONNECT_TIMEOUT_MS = 10_000

/** A Kysely instance that migrations can run on. The pool stays the caller's. */
export interface MigrationDatabase {
  db: Kysely<unknown>
  /** The error that broke a connection while it was in use. Undefined if there was none. */
  brokenBy(): Error | undefined
}

/** Makes a Kysely instance that migrations can run on. */
export function migrationDatabase(pool: ConnectionPool): MigrationDatabase {
  let broken: Error | undefined
  const watched = {
    connect: async () => {
      const client = await connectWithin(pool, CONNECT_TIMEOUT_MS)
      const { release } = client
      const onError = (error: Error) => {
        broken = error
      }
      client.on('error', onError)
      client.release = () => {
        client.removeListener('error', onError)
        release(broken)
      }
      return client
    },
    end: async () => {},
  }
  const dialect = new LocklessDialect({ pool: watched as unknown as PostgresPool })
  return { db: new Kysely<unknown>({ dialect }), brokenBy: () => broken }
}

/**
 * Switches off Kysely's own lock. That lock belongs to a session, and a pooler may give the session to somebody else.
 * If a migration fails inside the caller's transaction, its release hides the error.
 * {@link file://./migration-lock.ts} locks instead.
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

/** Runs the migrations that have not run yet, as part of the transaction. Returns their names, in order. */
export async function runMigrations(transaction: Transaction<unknown>, schema: string): Promise<string[]> {
  return namesOf(await migratorOn(transaction, schema).migrateToLatest())
}

/** Takes back the newest migration. Returns its name, or nothing if none was left. */
export async function takeBackNewest(transaction: Transaction<unknown>, schema: string): Promise<string[]> {
  return namesOf(await migratorOn(transaction, schema).migrateDown())
}

/** Takes back all migrations, as part of the transaction. Returns their names, newest first. */
export async function takeBackAll(transaction: Transaction<unknown>, schema: string): Promise<string[]> {
  return namesOf(await migratorOn(transaction, schema).migrateTo(NO_MIGRATIONS))
}

function migratorOn(db: Transaction<unknown>, schema: string): Migrator {
  return new Migrator({
    db,
    provider: new ImpatientProvider(
      new FileMigrationProvider({
        fs,
        path,
        migrationFolder: MIGRATION_FOLDER,
        import: file => import(pathToFileURL(file).href),
      }),
    ),
    migrationTableName: RECORD_TABLE,
    migrationLockTableName: RECORD_LOCK_TABLE,
    // Otherwise Kysely would use a record of any schema, also of one that is not in `search_path`.
    migrationTableSchema: schema,
  })
}

/** While a migration waits for a table, all later users of it wait behind. So each migration gives up early. */
class ImpatientProvider implements MigrationProvider {
  readonly #migrations: MigrationProvider

  constructor(migrations: MigrationProvider) {
    this.#migrations = migrations
  }

  async getMigrations(): Promise<Record<string, Migration>> {
    const migrations = Object.entries(await this.#migrations.getMigrations())
    return Object.fromEntries(migrations.map(([name, migration]) => [name, impatient(migration)]))
  }
}

function impatient({ up, down }: Migration): Migration {
  const hurry = (db: Kysely<unknown>) => execute(db, { sql: "SET LOCAL lock_timeout = '5s'", parameters: [] })
  return {
    up: async db => {
      await hurry(db)
      await up(db)
    },
    down: async db => {
      await hurry(db)
      await down?.(db)
    },
  }
}

function namesOf({ error, results }: MigrationResultSet): string[] {
  if (error) throw error
  return (results ?? []).map(result => result.migrationName)
}
