import { assertViewsSeeAllRows } from '../access/row-security.ts'
import { installQueue, type QueueInstallation } from '../worker/install-queue.ts'
import { assertWorkspacesAdoptable } from './adoption.ts'
import { type AdoptionWarning, adoptionWarnings } from './adoption-warnings.ts'
import { exclusively, type MigrateOptions } from './exclusive.ts'
import { migrationDatabase, runMigrations, takeBackNewest } from './migrator.ts'

export type { AdoptionWarning } from './adoption-warnings.ts'
export type { MigrateOptions } from './exclusive.ts'

/** What {@link migrate} did. */
export interface MigrateResult {
  /** The migrations that this call ran, in order. Empty if the schema was up to date. */
  applied: string[]
  queue: QueueInstallation
  /** What an operator should know about the table `workspaces`. Each call looks anew. They are logged as well. */
  warnings: AdoptionWarning[]
}

/**
 * Brings the database up to date: this package's tables, pg-boss's schema, the queues and the schedule. It can be
 * repeated. Several machines can run it at once: the later ones wait, and then find everything done.
 *
 * @throws {UnknownOptionError} If there is no such option.
 * @throws {InvalidOptionError} If the connection string is no URL, or `search_path` names no schema that exists.
 * @throws {WorkspacesTableError} If a `workspaces` exists that can't be adopted. Nothing was created then.
 * @throws {RowSecurityError} If row security hides rows from the owner of the views. Nothing was created then.
 * @throws {QueueSchemaError} If pg-boss's schema is newer than this package's pg-boss. The tables are migrated then.
 * @throws {QueuePolicyError} If the flush queue exists with another policy.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function migrate(options: MigrateOptions): Promise<MigrateResult> {
  return await exclusively(options, async (pool, logger) => {
    await assertWorkspacesAdoptable(pool)
    await assertViewsSeeAllRows(pool)
    const applied = await runMigrations(migrationDatabase(pool))
    for (const name of applied) logger.info({ migration: name }, 'migrated')
    const queue = await installQueue(pool, logger)
    const warnings = await adoptionWarnings(pool)
    for (const warning of warnings) logger.warn({ ...warning }, `${warning.object}: ${warning.consequence}`)
    return { applied, queue, warnings }
  })
}

/**
 * Takes back the newest migration and drops what it created. A `workspaces` that the host created stays, and so does
 * one that holds rows. pg-boss's schema stays as well. Stop the workers first. `uninstall` takes back everything.
 *
 * @returns The migration that was taken back, or null if there was none left.
 * @throws {UnknownOptionError} If there is no such option.
 * @throws {InvalidOptionError} If the connection string is no URL, or `search_path` names no schema that exists.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function migrateDown(options: MigrateOptions): Promise<string | null> {
  return await exclusively(options, async pool => {
    const [reverted] = await takeBackNewest(migrationDatabase(pool))
    return reverted ?? null
  })
}
