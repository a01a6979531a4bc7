import { type Kysely, sql, type Transaction } from 'kysely'
import { SHARD_WITNESS, SHARDED_TABLES } from '../database/distributed.ts'
import { qualified } from '../database/schema-path.ts'
import { workspaceIdType } from '../database/workspace-id-type.ts'
import { DistributionRefusedError, WorkspaceUsageError } from '../errors.ts'
import { createActivityViews } from '../schema/activity-views.ts'
import { addWorkspaceForeignKey } from '../schema/workspace-foreign-key.ts'
import { createCompleteSince } from './complete-since.ts'
import {
  assertPlainSchema,
  assertWorkspacesDistributable,
  type DistributableWorkspaces,
} from './distributable.ts'
import { emptyViews } from './emptied-views.ts'
import { createIgnoredSources } from './ignored-sources.ts'
import { regclass } from './names.ts'
import { createShardWitness, type DistributableIdType, fillShardWitness } from './shard-witness.ts'
import { createUntilFunctions } from './until-functions.ts'

/*
 * Distributes the tables of this package, in the order that Citus wants. All of it is one transaction, with the witness of
 * shards last: if that table is there, everything is.
 */

/** They refer to the workspaces. Citus wants that only between distributed tables. */
const REFERRING = ['workspace_usage', 'workspace_usage_day']

/** Citus has no inheritance between distributed tables. */
const CHILDREN = [
  ['workspace_usage_day', 'workspace_usage'],
  ['set_aside_usage', 'pending_usage'],
] as const

/** What `mark_usage_until()` calls, and what the coordinator alone would have otherwise. */
const FUNCTIONS = ['usage_until_limit', 'refuse_usage_until', 'pending_usage_server']

/**
 * Distributes the tables, within the transaction. They are migrated, and not distributed yet. While it waits for a lock,
 * marks wait behind it, so it gives up early. It takes as long as the rows take to be copied to the nodes.
 *
 * @throws {DistributionRefusedError} If something is in the way.
 */
export async function distribute(transaction: Transaction<unknown>, schema: string): Promise<void> {
  const db = transaction as unknown as Kysely<never>
  await assertPlainSchema(transaction, schema)
  const workspaces = await assertWorkspacesDistributable(transaction)
  const idType = (await workspaceIdType(transaction)) as DistributableIdType
  // What was done on all shards at once can't be followed by foreign keys otherwise.
  await sql`SET LOCAL citus.multi_shard_modify_mode = 'sequential'`.execute(db)
  await sql`SET LOCAL lock_timeout = '5s'`.execute(db)
  const referring = await dropForeignKeys(db, schema)
  await emptyViews(db, schema)
  await loosenChildren(db, schema)
  await sql`
    CREATE INDEX IF NOT EXISTS pending_usage_workspace ON ${sql.id(schema, 'pending_usage')} (workspace_id)
  `.execute(db)
  await nameUnnamedSources(db, schema)
  await distributeTables(db, schema, workspaces)
  await createShardWitness(db, schema, idType)
  await distributeTable(db, schema, SHARD_WITNESS, workspaces)
  await fillShardWitness(db, schema, idType)
  for (const table of referring) await addWorkspaceForeignKey(db, table)
  await changeCoordinatorTables(db, schema)
  await createIgnoredSources(db, schema)
  await replaceReads(db, schema, idType)
}

async function dropForeignKeys(db: Kysely<never>, schema: string): Promise<string[]> {
  const { rows } = await sql<{ table: string; name: string }>`
    SELECT t.name AS table, k.conname::text AS name
    FROM unnest(${REFERRING}::text[]) AS t (name)
    JOIN pg_catalog.pg_class c ON c.relname = t.name
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = ${schema}
    JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f'
  `.execute(db)
  for (const { table, name } of rows) {
    await sql`ALTER TABLE ${sql.id(schema, table)} DROP CONSTRAINT ${sql.id(name)}`.execute(db)
  }
  return [...new Set(rows.map(({ table }) => table))]
}

async function loosenChildren(db: Kysely<never>, schema: string): Promise<void> {
  for (const [child, parent] of CHILDREN) {
    await sql`ALTER TABLE ${sql.id(schema, child)} NO INHERIT ${sql.id(schema, parent)}`.execute(db)
  }
}

/**
 * What the nodes do by themselves for an INSERT … SELECT has an `application_name` of Citus, which is another one for each
 * connection.
 */
async function nameUnnamedSources(db: Kysely<never>, schema: string): Promise<void> {
  await sql`
    ALTER TABLE ${sql.id(schema, 'pending_usage')} ALTER COLUMN source SET DEFAULT coalesce(
      nullif(pg_catalog.regexp_replace(pg_catalog.current_setting('application_name'), '^citus_.*', ''), ''), 'unknown'
    )
  `.execute(db)
}

async function distributeTables(
  db: Kysely<never>,
  schema: string,
  workspaces: DistributableWorkspaces,
): Promise<void> {
  if (!workspaces.isDistributed) {
    const table = regclass(workspaces.schema, 'workspaces')
    await explainingCitus('workspaces', async () => {
      await sql`SELECT pg_catalog.create_distributed_table(${table}, 'id')`.execute(db)
      await emptyLocally(db, workspaces.schema, 'workspaces')
    })
  }
  for (const name of SHARDED_TABLES) {
    await distributeTable(db, schema, name, workspaces)
    await emptyLocally(db, schema, name)
  }
}

async function distributeTable(
  db: Kysely<never>,
  schema: string,
  name: string,
  workspaces: DistributableWorkspaces,
): Promise<void> {
  const beside = sql.lit(qualified(workspaces.schema, 'workspaces'))
  await explainingCitus(name, () =>
    sql`
      SELECT pg_catalog.create_distributed_table(${regclass(schema, name)}, 'workspace_id', colocate_with => ${beside})
    `.execute(db),
  )
}

/** Citus leaves the rows that it has copied to the nodes where they were, unseen. */
async function emptyLocally(db: Kysely<never>, schema: string, name: string): Promise<void> {
  await sql`
    SELECT pg_catalog.truncate_local_data_after_distributing_table(${regclass(schema, name)})
  `.execute(db)
}

/** There are no marks on the coordinator, so its crash loses none. Whose loss it was is noted with the nodes. */
async function changeCoordinatorTables(db: Kysely<never>, schema: string): Promise<void> {
  await sql`ALTER TABLE ${sql.id(schema, 'pending_usage_witness')} SET LOGGED`.execute(db)
  const reset = sql.id(schema, 'pending_usage_reset')
  await sql`ALTER TABLE ${reset} ADD COLUMN IF NOT EXISTS nodes text[]`.execute(db)
  await sql`
    COMMENT ON COLUMN ${reset}.nodes IS 'The nodes of Citus that lost marks. Null: the whole database.'
  `.execute(db)
}

/** Citus runs what is created from here on on every node. */
async function replaceReads(db: Kysely<never>, schema: string, idType: DistributableIdType): Promise<void> {
  const { rows } = await sql<{ definition: string }>`
    SELECT pg_catalog.pg_get_functiondef(p.oid) AS definition
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname = ${schema}
    WHERE p.proname = ANY (${FUNCTIONS}::text[])
  `.execute(db)
  for (const { definition } of rows) await sql.raw(definition).execute(db)
  await createUntilFunctions(db, schema, idType)
  await sql`
    CREATE OR REPLACE VIEW ${sql.id(schema, 'pending_usage_period')} AS
    SELECT DISTINCT period_end FROM ${sql.id(schema, 'pending_usage')}
  `.execute(db)
  await createActivityViews(db, schema)
  await createCompleteSince(db, schema)
}

/** The table of the host may have what Citus does not distribute: foreign keys, triggers, a primary key without `id`. */
async function explainingCitus(table: string, run: () => Promise<unknown>): Promise<void> {
  try {
    await run()
  } catch (error) {
    if (error instanceof WorkspaceUsageError || !(error instanceof Error)) throw error
    const { message, detail } = error as Error & { detail?: string }
    const reason = [`${table}: ${message}`, detail].filter(part => part !== undefined).join(': ')
    const remedy =
      table === 'workspaces'
        ? 'Distribute the table "workspaces" by its id yourself, with what refers to it, and repeat the command.'
        : 'Change that, and repeat the command.'
    throw new DistributionRefusedError(reason, remedy, { cause: error })
  }
}
