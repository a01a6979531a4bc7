import { setTimeout } from 'node:timers/promises'
import { type Kysely, sql, type Transaction } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { useOwnSettings } from '../database/own-settings.ts'
import { pathStatements } from '../database/schema-path.ts'
import { sqlState } from '../database/sql-state.ts'
import { MigrationLockLostError, NotMigratedError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { createSchemaIfMissing } from './own-schema.ts'
import { RECORD_LOCK_TABLE } from './record.ts'

/*
 * The lock of migrations is the lock of a row, in a table that belongs to the role that migrates. An advisory lock would
 * be free for every role of the database, so a marker could hold it and block all migrations.
 *
 * A transaction holds the lock, so it ends with its connection, and works through a pooler. The transaction that
 * creates the tables is the one that holds the lock: a lock that is lost takes the changes with it. Its first statement
 * may create the table of the lock. Two first migrations then meet on PostgreSQL's own catalog, and one of them waits.
 *
 * Nobody waits inside PostgreSQL. A waiting statement has a snapshot, and CREATE INDEX CONCURRENTLY waits for the end of
 * all older snapshots. So the holder of the lock could wait for those that wait for it. A waiter would also occupy a
 * connection of a pooler. It tries, lets go, and tries again after a pause.
 */

/** What to do if the table of the lock does not exist. */
export type WithoutTable =
  /** Create it. */
  | 'create'
  /** Go on without a lock, because nothing is migrated. */
  | 'go on'
  /** Throw, because the caller has just seen it. */
  | 'refuse'

/** The transaction that holds the lock. */
export interface LockedTransaction {
  transaction: Transaction<unknown>
  /**
   * Call it before each step that runs on another connection.
   *
   * @throws {MigrationLockLostError} If the connection of the lock is broken. Somebody else may have the lock then.
   */
  assertHeld(): Promise<void>
}

/** Where and how to lock. */
export interface LockOptions {
  schema: string
  /** Whether the transaction finds and creates objects in that schema only. If not: as `search_path` says. */
  isNamed: boolean
  withoutTable: WithoutTable
  logger: Logger
  /** The error that broke a connection of `db` while it was in use. Undefined if there was none. */
  brokenBy(): Error | undefined
}

const BUSY = new Error('another transaction has the lock')

/** A try must not wait. This is for the moments in which the table is being created or dropped. */
const TRY_TIMEOUT = '100ms'
/** A migration that waits for a lock makes others wait behind it. Each migration sets a shorter limit for itself. */
const LOCK_TIMEOUT = '30s'
const PAUSE_MS = 200
/** How often a waiter says that it still waits. */
const REMINDER_MS = 60_000

/**
 * Runs something in a transaction that holds the lock of a schema. If another run has it, this one waits and says so.
 *
 * @throws {MigrationLockLostError} If the connection of the lock breaks. What the transaction did is rolled back.
 * @throws {NotMigratedError} If there is no table to lock, and `withoutTable` is `refuse`.
 */
export async function underLock<Result>(
  db: Kysely<unknown>,
  options: LockOptions,
  run: (locked: LockedTransaction) => Promise<Result>,
): Promise<Result> {
  const wait = new Wait(options.logger)
  for (;;) {
    const outcome = await attempt(db, options, run)
    if (outcome !== 'busy') return outcome.result
    await wait.pause()
  }
}

async function attempt<Result>(
  db: Kysely<unknown>,
  options: LockOptions,
  run: (locked: LockedTransaction) => Promise<Result>,
): Promise<{ result: Result } | 'busy'> {
  let taken = false
  let failure: unknown
  const { brokenBy } = options
  try {
    return await db
      .transaction()
      .setIsolationLevel('read committed')
      .execute(async transaction => {
        try {
          taken = await take(transaction, options)
          if (!taken) throw BUSY
          return { result: await run({ transaction, assertHeld: () => assertHeld(transaction) }) }
        } catch (error) {
          // If the connection is broken, the rollback fails as well, and its error would hide this one.
          failure = error
          throw error
        }
      })
  } catch (error) {
    const reason = failure ?? error
    if (!taken && isBusy(failure)) return 'busy'
    if (brokenBy() !== undefined || isShutDown(reason)) throw new MigrationLockLostError(reason)
    throw reason
  }
}

/** @returns Whether the transaction has the lock. */
async function take(
  transaction: Connection,
  { schema, isNamed, withoutTable }: LockOptions,
): Promise<boolean> {
  await useOwnSettings(transaction, { until: 'transaction', lockTimeout: TRY_TIMEOUT })
  if (isNamed) {
    const [path] = pathStatements(schema, { alone: true })
    await execute(transaction, { sql: path!, parameters: [] })
    if (withoutTable === 'create') await createSchemaIfMissing(transaction, schema)
  }
  const table = sql.id(schema, RECORD_LOCK_TABLE)
  if (!(await exists(transaction, schema))) {
    if (withoutTable === 'go on') return true
    if (withoutTable === 'refuse') {
      throw new NotMigratedError('somebody has removed workspace-usage from it in the meantime')
    }
    // The columns are those that Kysely would create.
    await execute(
      transaction,
      compile(sql`
        CREATE TABLE IF NOT EXISTS ${table} (
          id varchar(255) NOT NULL PRIMARY KEY, is_locked integer NOT NULL DEFAULT 0
        )`),
    )
  }
  await execute(
    transaction,
    compile(sql`INSERT INTO ${table} (id) VALUES ('migration_lock') ON CONFLICT DO NOTHING`),
  )
  const { rows } = await execute(
    transaction,
    compile(sql`SELECT FROM ${table} WHERE id = 'migration_lock' FOR UPDATE SKIP LOCKED`),
  )
  // It has no parameters. So it also ends the snapshot that a statement with parameters leaves open.
  await execute(transaction, { sql: `SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'`, parameters: [] })
  return rows.length > 0
}

async function exists(connection: Connection, schema: string): Promise<boolean> {
  const { rows } = await execute(
    connection,
    compile(
      sql`SELECT WHERE to_regclass(format('%I.%I', ${schema}::text, ${RECORD_LOCK_TABLE}::text)) IS NOT NULL`,
    ),
  )
  return rows.length > 0
}

async function assertHeld(transaction: Connection): Promise<void> {
  try {
    // Without parameters, so that no snapshot stays open.
    await execute(transaction, { sql: 'SELECT', parameters: [] })
  } catch (error) {
    throw new MigrationLockLostError(error)
  }
}

/** What a try meets while another transaction creates, locks or drops the table. */
function isBusy(error: unknown): boolean {
  if (error === BUSY) return true
  // lock_not_available, unique_violation, duplicate_table, duplicate_schema, undefined_table
  return ['55P03', '23505', '42P07', '42P06', '42P01'].includes(sqlState(error) ?? '')
}

/** PostgreSQL ends the connection (57P01 to 57P03). The connection tells it only after the statement does. */
function isShutDown(error: unknown): boolean {
  return /^57P0[1-3]$/.test(sqlState(error) ?? '')
}

/** The pauses between the tries of one waiter. */
class Wait {
  readonly #logger: Logger
  readonly #since = performance.now()
  #tellAt = 0

  constructor(logger: Logger) {
    this.#logger = logger
  }

  async pause(): Promise<void> {
    const waitedMs = performance.now() - this.#since
    if (this.#tellAt === 0) {
      this.#logger.info({}, 'another migration of this database is running; waiting for it')
      this.#tellAt = REMINDER_MS
    } else if (waitedMs > this.#tellAt) {
      this.#logger.warn(
        { waitedMs: Math.round(waitedMs) },
        'another migration of this database is still running',
      )
      this.#tellAt = waitedMs + REMINDER_MS
    }
    await setTimeout(PAUSE_MS * (1 + Math.random()))
  }
}
