import { type Kysely, sql } from 'kysely'
import { COORDINATOR_TABLES, IGNORED_SOURCE, SHARD_WITNESS, SHARDED_TABLES } from '../database/distributed.ts'
import { ACTIVITY_VIEWS } from '../schema/activity-views.ts'
import { dropNotedPeriods } from '../schema/marks-of-views.ts'

/** They refer to each other, so they go together. */
const TABLES = [...SHARDED_TABLES, ...COORDINATOR_TABLES, IGNORED_SOURCE, SHARD_WITNESS]

/** Each after those that call it. */
const ROUTINES = [
  'usage_on_shards',
  'lock_usage_shards',
  'keep_ignored_sources',
  'mark_usage_until',
  'end_usage_until',
  'refuse_usage_until',
  'usage_until_limit',
  'usage_complete_since',
  'no_hidden_usage',
  'pending_usage_server',
  'usage_period_end',
  'usage_period',
]

/**
 * Drops what this package has in a distributed database, on all nodes. The migrations can't be taken back one by one
 * there: Citus refuses to restore some of what the tables had before. A `workspaces` that the host made, or that holds
 * rows, stays, and stays distributed.
 */
export async function removeDistributed(db: Kysely<never>, schema: string): Promise<void> {
  for (const view of ACTIVITY_VIEWS) await sql`DROP VIEW IF EXISTS ${sql.id(schema, view)}`.execute(db)
  // The views call it, and it reads the next one.
  await dropNotedPeriods(db, schema)
  await sql`DROP VIEW IF EXISTS ${sql.id(schema, 'pending_usage_period')}`.execute(db)
  const tables = sql.join(TABLES.map(table => sql.id(schema, table)))
  await sql`DROP TABLE IF EXISTS ${tables}`.execute(db)
  await dropRoutines(db, schema)
  await dropEmptyWorkspaces(db)
}

async function dropRoutines(db: Kysely<never>, schema: string): Promise<void> {
  const { rows } = await sql<{ name: string; of: string }>`
    SELECT p.proname::text AS name, pg_catalog.pg_get_function_identity_arguments(p.oid) AS of
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname = ${schema}
    WHERE p.proname = ANY (${ROUTINES}::text[])
    ORDER BY pg_catalog.array_position(${ROUTINES}::text[], p.proname::text)
  `.execute(db)
  for (const { name, of } of rows) {
    await sql`DROP ROUTINE ${sql.id(schema, name)}(${sql.raw(of)})`.execute(db)
  }
}

async function dropEmptyWorkspaces(db: Kysely<never>): Promise<void> {
  const { rows } = await sql<{ schema: string }>`
    SELECT relnamespace::regnamespace::text AS schema FROM pg_catalog.pg_class
    WHERE oid = to_regclass('workspaces') AND obj_description(oid, 'pg_class') = 'Created by workspace-usage.'
  `.execute(db)
  if (!rows[0]) return
  const used = await sql`SELECT FROM workspaces LIMIT 1`.execute(db)
  if (used.rows.length === 0) await sql`DROP TABLE workspaces`.execute(db)
}
