import { type Kysely, sql } from 'kysely'
import { marksSchema } from './0007_readers_see_all_or_an_error.ts'

/**
 * Which workspaces a reaper has stopped, and for which last use. A stopped workspace stays idle, and we do not know how
 * the host says that it is stopped. Without this table each run would stop all of them again, and two at once the same.
 *
 * It is LOGGED: after a crash nothing may be stopped twice. There is no foreign key, because `workspaces` may be a view.
 */
export async function up(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  const table = sql.id(schema, 'stopped_workspaces')
  // Ids have the type and the collation of the host's own.
  await sql`
    CREATE TABLE ${table} AS SELECT workspace_id FROM ${sql.id(schema, 'pending_usage')} WITH NO DATA
  `.execute(db)
  await sql`
    ALTER TABLE ${table}
      ADD CONSTRAINT stopped_workspaces_pkey PRIMARY KEY (workspace_id),
      ADD COLUMN idle_since timestamptz NOT NULL,
      ADD COLUMN stopped_at timestamptz NOT NULL DEFAULT pg_catalog.statement_timestamp()
  `.execute(db)
  await sql`
    COMMENT ON TABLE ${table} IS
      'Workspaces that a reaper has stopped, and the last use that it stopped them for. It stops one again once it was used after idle_since. Delete a row to have it stopped again.'
  `.execute(db)
}

export async function down(db: Kysely<never>): Promise<void> {
  await sql`DROP TABLE ${sql.id(await marksSchema(db), 'stopped_workspaces')}`.execute(db)
}
