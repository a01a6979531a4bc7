import { type Kysely, sql } from 'kysely'

/** When each source last used each workspace: the flush's second answer. */
export async function up(db: Kysely<never>): Promise<void> {
  // The foreign key makes this statement wait for, and hold up, writers of a busy "workspaces": give up early instead.
  await sql`SET LOCAL lock_timeout = '5s'`.execute(db)
  await sql`
    CREATE TABLE workspace_usage (
      workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
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

export async function down(db: Kysely<never>): Promise<void> {
  await sql`DROP TABLE workspace_usage`.execute(db)
}
