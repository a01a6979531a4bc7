import { assertViewsSeeAllRows } from '../access/row-security.ts'
import { assertCoordinator } from '../citus/distributable.ts'
import { distributeOnce } from '../citus/distribute-once.ts'
import { type Distribution, distributionOf } from '../citus/distribution.ts'
import { leaveToCoordinator } from '../citus/propagation.ts'
import { type Connection, execute } from '../database/connection.ts'
import { isDistributed } from '../database/distributed.ts'
import { checkOptions, type OptionRules, YES_OR_NO } from '../options.ts'
import { installQueue, type QueueInstallation } from '../worker/install-queue.ts'
import { assertQueueUpgradable } from '../worker/queue-upgrade.ts'
import {
  ADOPTION_OPTIONS,
  type Adoption,
  type AdoptionOptions,
  adoptTable,
  assertTableNamed,
} from './adopt.ts'
import { type AdoptedTable, adoptedTable } from './adopted-table.ts'
import { assertWorkspacesAdoptable } from './adoption.ts'
import { type AdoptionWarning, adoptionWarnings } from './adoption-warnings.ts'
import { showCreatedAt } from './created-at.ts'
import { changeSchema, SCHEMA_OPTIONS, type SchemaChange, type SchemaOptions } from './exclusive.ts'
import { runMigrations } from './migrator.ts'
import { isLogged, switchPersistence } from './persistence.ts'
import { commentRecord, restoreRecord } from './record.ts'
import { explainingRefusals } from './refusal.ts'
import { withSessionPath, workspacesElsewhere } from './session-path.ts'
import { setUsageUntilLimit } from './until-limit.ts'
import { UNTIL_LIMIT_SECONDS } from './until-limit-range.ts'
import { renewForeignKeys } from './workspace-keys.ts'

export type { AdoptionWarning } from './adoption-warnings.ts'
export type { SchemaOptions } from './exclusive.ts'

/** Options of {@link migrate}. */
export interface MigrateOptions extends SchemaOptions, AdoptionOptions {
  /**
   * Whether marks survive a crash of the server and the promotion of a standby. True makes their tables LOGGED, false
   * UNLOGGED. PostgreSQL writes the pending marks anew, and new marks wait meanwhile. Default: they stay as they are. A
   * new database has UNLOGGED tables.
   */
  logged?: boolean
  /**
   * How far ahead a workspace can be in use at most (the option `until` of `markUsage`), in seconds: 60 to 31,622,400.
   * Default: it stays as it is. A new database has {@link DEFAULT_UNTIL_LIMIT_SECONDS}: a day.
   */
  untilLimitSeconds?: number
  /**
   * Whether to distribute the tables over the nodes of a Citus cluster, by the id of the workspace. The connection leads to
   * its coordinator. A host may have distributed its own `workspaces` by `id` already. Privileges must be granted again
   * afterwards. Once they are distributed they stay so, also without this option. Not together with `logged`.
   */
  citus?: boolean
}

const MIGRATE_OPTIONS: OptionRules<MigrateOptions> = {
  ...SCHEMA_OPTIONS,
  ...ADOPTION_OPTIONS,
  logged: YES_OR_NO,
  untilLimitSeconds: UNTIL_LIMIT_SECONDS,
  citus: YES_OR_NO,
}

/** What {@link migrate} did. */
export interface MigrateResult {
  /** The schema that holds this package's tables. */
  schema: string
  /** The migrations that this call ran, in order. Empty if the schema was up to date. */
  applied: string[]
  /**
   * The migrations that had run elsewhere and were not recorded here, because a dump was restored without its rows.
   * Almost always empty.
   */
  restored: string[]
  /** Whether this call created the table `workspaces`, because there was none. */
  workspacesCreated: boolean
  /** The table behind `workspaces`. */
  workspaces: AdoptedTable
  /** What became of the view `workspaces`. Null if the option `table` was not given, and no table was found elsewhere. */
  adoption: Adoption | null
  queue: QueueInstallation
  /** Whether marks survive a crash of the server, because all their tables are LOGGED. */
  logged: boolean
  /** How the tables are distributed with Citus. Null if they are not. */
  citus: Distribution | null
  /** What an operator should know about the table `workspaces`. Each call looks anew. They are logged as well. */
  warnings: AdoptionWarning[]
}

/**
 * Brings the database up to date: this package's tables, pg-boss's schema, the queues and the schedule. It can be
 * repeated, also after it was interrupted at any point. Several machines can run it at once: the later ones wait, and
 * then find everything done.
 *
 * An upgrade of pg-boss may build indexes, one after the other. Each one waits until all older transactions of the
 * database have ended. The log tells which.
 *
 * @throws {UnknownOptionError} If there is no such option.
 * @throws {InvalidOptionError} If the connection string is no URL, or `search_path` names no schema that exists.
 * @throws {WorkspacesTableError} If the table can't be adopted, or if there is none of the name that was given. Nothing
 *   was created or changed then.
 * @throws {RowSecurityError} If row security hides rows from the owner of the views. Nothing was created then.
 * @throws {QueueSchemaError} If pg-boss's schema is newer than this package's pg-boss, or too old for it. Nothing was
 *   created then.
 * @throws {QueueSchemaUnknownError} If pg-boss's schema tells no version and is none that this pg-boss knows. Nothing
 *   was created then.
 * @throws {ObjectExistsError} If an object is there already that a migration creates. Nothing was created then.
 * @throws {SchemaChangeRefusedError} If a lock is not free within some seconds. Nothing was created then. For `logged` it
 *   tries for a minute, and the migrations stay.
 * @throws {DistributionRefusedError} If `citus` is asked for, and something is in the way. Nothing was distributed then.
 * @throws {QueuePolicyError} If the flush queue exists with another policy.
 * @throws {MigrationLockLostError} If the connection that holds the lock of migrations breaks. The steps that had ended
 *   stay.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function migrate(options: MigrateOptions): Promise<MigrateResult> {
  checkOptions(options, MIGRATE_OPTIONS)
  assertTableNamed(options)
  const {
    logged,
    untilLimitSeconds,
    citus,
    table,
    idColumn,
    lastUsedColumn,
    createdColumn,
    where,
    ...place
  } = options
  const adoption = { table, idColumn, lastUsedColumn, createdColumn, where }
  return await changeSchema(place, async change => {
    const { database, logger, schema } = change
    if (citus) await assertCoordinator(database, { logged })
    const tables = await migrateTables(change, adoption)
    if (citus || (await isDistributed(database))) await distributeOnce(change)
    if (logged !== undefined) await switchPersistence(change, logged)
    if (untilLimitSeconds !== undefined) await setUsageUntilLimit(database, untilLimitSeconds)
    const queue = await change.locked('refuse', ({ assertHeld }) =>
      installQueue({ database, logger, assertHeld }),
    )
    const warnings = await adoptionWarnings(database)
    for (const warning of warnings) logger.warn({ ...warning }, `${warning.object}: ${warning.consequence}`)
    const workspaces = (await adoptedTable(database))!
    return {
      schema,
      ...tables,
      workspaces,
      queue,
      logged: await isLogged(database, schema),
      citus: await distributionOf(database),
      warnings,
    }
  })
}

type MigratedTables = Pick<MigrateResult, 'applied' | 'restored' | 'workspacesCreated' | 'adoption'>

/** All in the transaction that holds the lock. */
async function migrateTables(
  { database, logger, schema, isNamed, locked }: SchemaChange,
  options: Undefinable<AdoptionOptions>,
): Promise<MigratedTables> {
  const tables = await explainingRefusals(schema, () =>
    locked('create', async ({ transaction }) => {
      await leaveToCoordinator(transaction)
      const adoption = isNamed
        ? await withSessionPath(transaction, schema, () => adopt(transaction, schema, options, isNamed))
        : await adopt(transaction, schema, options, isNamed)
      // A view that is not committed is seen in its own transaction only.
      const seeing = adoption === null || adoption === 'kept' ? database : transaction
      if (seeing === database) await assertWorkspacesAdoptable(database)
      else await withoutTrace(transaction, () => assertWorkspacesAdoptable(transaction))
      await assertViewsSeeAllRows(seeing)
      await assertQueueUpgradable(database)
      const restored = await restoreRecord(transaction, schema)
      const workspacesCreated = !(await workspacesExist(transaction))
      const applied = await runMigrations(transaction, schema)
      await renewForeignKeys(transaction, schema)
      await showCreatedAt(transaction, schema)
      await commentRecord(transaction, schema)
      return { applied, restored, workspacesCreated, adoption }
    }),
  )
  for (const name of tables.restored) logger.info({ migration: name }, 'recorded what a dump had brought')
  for (const name of tables.applied) logger.info({ migration: name }, 'migrated')
  if (tables.workspacesCreated) logger.info({ schema }, `${WORKSPACES_CREATED}. ${WORKSPACES_ELSEWHERE}`)
  return tables
}

type Undefinable<Options> = { [Name in keyof Options]: Options[Name] | undefined }

async function adopt(
  transaction: Connection,
  schema: string,
  options: Undefinable<AdoptionOptions>,
  isNamed: boolean,
): Promise<Adoption | null> {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
  const { table } = options
  if (table !== undefined) return await adoptTable(transaction, schema, { ...given, table })
  const elsewhere = isNamed ? await workspacesElsewhere(transaction, schema) : null
  return elsewhere && (await adoptTable(transaction, schema, elsewhere))
}

/**
 * Lets go of the locks of what it asks, so that later statements meet no deadlock when they need stronger ones. It may
 * ask what PostgreSQL refuses.
 */
async function withoutTrace(transaction: Connection, ask: () => Promise<void>): Promise<void> {
  await execute(transaction, { sql: 'SAVEPOINT asking', parameters: [] })
  await ask()
  await execute(transaction, { sql: 'ROLLBACK TO SAVEPOINT asking', parameters: [] })
}

/** What {@link migrate} says when it has created the table. */
export const WORKSPACES_CREATED = 'created the empty table "workspaces", because there was none'

/** What to do if that was not intended. */
export const WORKSPACES_ELSEWHERE =
  'If your workspaces are in another table, flushes find none of them. Then name it: workspace-usage migrate --table.'

/** As `search_path` finds it. */
async function workspacesExist(connection: Connection): Promise<boolean> {
  const { rows } = await execute(connection, {
    sql: "SELECT WHERE to_regclass('workspaces') IS NOT NULL",
    parameters: [],
  })
  return rows.length > 0
}
