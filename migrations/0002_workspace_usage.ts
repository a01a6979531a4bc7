import { type Kysely, sql } from 'kysely'
import { addWorkspaceForeignKey } from '../src/schema/workspace-foreign-key.ts'
import { idType } from './0001_pending_usage.ts'

/** A second table that the flush keeps: when each source last used each workspace. */
export async function up(db: Kysely<never>): Promise<void> {
  const { column: id } = await idType(db, 'pending_usage', 'workspace_id')
  // The foreign key makes this statement wait for writers of "workspaces". Later writers then wait behind it, so on a
  // busy table it is better to give up early.
  await sql`SET LOCAL lock_timeout = '5s'`.execute(db)
  await sql`
    CREATE TABLE workspace_usage (
      workspace_id ${id} NOT NULL,
      source text NOT NULL,
      last_used_at timestamptz NOT NULL,
      CONSTRAINT workspace_usage_pkey PRIMARY KEY (workspace_id, source)
    ) WITH (fillfactor = 75)
  `.execute(db)
  await addWorkspaceForeignKey(db, 'workspace_usage')
  await sql`
    COMMENT ON TABLE workspace_usage IS
      'When each source last used each workspace, as flushed. Written by the flush only.'
  `.execute(db)
}

export async function down(db: Kysely<never>): Promise<void> {
  await sql`DROP TABLE workspace_usage`.execute(db)
}
