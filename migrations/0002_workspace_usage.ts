import { type Kysely, type RawBuilder, sql } from 'kysely'
import { idType } from './0001_pending_usage.ts'

/** A second table that the flush keeps: when each source last used each workspace. */
export async function up(db: Kysely<never>): Promise<void> {
  const { column: id } = await idType(db, 'pending_usage', 'workspace_id')
  // The foreign key makes this statement wait for writers of "workspaces". Later writers then wait behind it, so on a
  // busy table it is better to give up early.
  await sql`SET LOCAL lock_timeout = '5s'`.execute(db)
  await sql`
    CREATE TABLE workspace_usage (
      workspace_id ${id} NOT NULL${await reference(db)},
      source text NOT NULL,
      last_used_at timestamptz NOT NULL,
      CONSTRAINT workspace_usage_pkey PRIMARY KEY (workspace_id, source)
    ) WITH (fillfactor = 75)
  `.execute(db)
  await sql`
    COMMENT ON TABLE workspace_usage IS
      'When each source last used each workspace, as flushed. Written by the flush only.'
  `.execute(db)
}

/** The foreign key of a column of ids. Nothing can refer to a view. */
export async function reference(db: Kysely<never>): Promise<RawBuilder<unknown>> {
  const { rows } = await sql<{ kind: string }>`
    SELECT relkind::text AS kind FROM pg_catalog.pg_class WHERE oid = to_regclass('workspaces')
  `.execute(db)
  const isTable = rows.some(({ kind }) => kind === 'r' || kind === 'p')
  return isTable ? sql` REFERENCES workspaces (id) ON DELETE CASCADE` : sql``
}

export async function down(db: Kysely<never>): Promise<void> {
  await sql`DROP TABLE workspace_usage`.execute(db)
}
