import { isDistributed } from '../database/distributed.ts'
import { SchemaChangeRefusedError } from '../errors.ts'
import { changeSchema, type SchemaOptions } from './exclusive.ts'
import { takeBackNewest } from './migrator.ts'
import { schemaExists } from './own-schema.ts'
import { commentRecord, isRecorded } from './record.ts'
import { explainingRefusals } from './refusal.ts'

const NOT_TAKEN_BACK = 'the tables are distributed with Citus, which can not take back a single migration'
const REMOVE_ALL = 'To remove everything: workspace-usage migrate --down --all.'

/**
 * Takes back the newest migration and drops what it created. A `workspaces` that the host created stays, and so does
 * one that holds rows. The first migration takes the view of an adopted table with it. pg-boss's schema stays as well. Stop the workers first. `uninstall` takes back everything.
 *
 * @returns The migration that was taken back, or null if there was none left.
 * @throws {UnknownOptionError} If there is no such option.
 * @throws {InvalidOptionError} If the connection string is no URL, or `search_path` names no schema that exists.
 * @throws {SchemaChangeRefusedError} If PostgreSQL refuses, or a lock is not free within some seconds, or the tables are
 *   distributed with Citus. Nothing was changed then.
 * @throws {MigrationLockLostError} If the connection breaks. Nothing was changed then.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function migrateDown(options: SchemaOptions): Promise<string | null> {
  return await changeSchema(options, async ({ database, schema, isNamed, locked }) => {
    if (isNamed && !(await schemaExists(database, schema))) return null
    return await explainingRefusals(schema, () =>
      locked('go on', async ({ transaction }) => {
        if (!(await isRecorded(transaction, schema))) return null
        if (await isDistributed(transaction)) throw new SchemaChangeRefusedError(NOT_TAKEN_BACK, REMOVE_ALL)
        const [reverted] = await takeBackNewest(transaction, schema)
        await commentRecord(transaction, schema)
        return reverted ?? null
      }),
    )
  })
}
