import { type Kysely, sql } from 'kysely'

/*
 * How use becomes last_used_at.
 *
 * A service that sees a workspace in use marks it:
 *
 *     INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING;
 *
 * The row is keyed by the end of the period (a fixed slice of time by this server's clock) in which the mark falls,
 * so a thousand marks of a workspace within a period are one row, whoever makes them. It is all a marker ever does.
 *
 * Once a minute a job flushes: one statement deletes rows of periods that have closed, and sets last_used_at of their
 * workspaces to the newest of those ends. Marks go to the open period and the flush takes closed ones, so the two
 * never meet on a row, and neither waits for the other. A workspace that another transaction holds is left for the
 * next flush, and so are its rows.
 *
 * pending_usage is UNLOGGED: writing it costs next to no WAL, it survives a clean restart, and a crash of the server
 * empties it. What is lost then is the use of the last minute; workspaces and workspace_usage are ordinary tables. The
 * witness, a row that is lost at the same moment, tells that it happened.
 *
 * Use flows one way: mark, pending_usage, flush, workspaces and workspace_usage. Markers never read or delete, only
 * the flush deletes, and nothing else writes last_used_at.
 */

export async function up(db: Kysely<never>): Promise<void> {
  // Epoch arithmetic, for date_bin is missing from PostgreSQL 13. statement_timestamp() and not now(): in a long
  // transaction now() names a period long closed, and its mark could be flushed before it was made. The length of a
  // period is written here and nowhere else. Nothing in it depends on search_path.
  await sql`
    CREATE FUNCTION usage_period_end() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
      SELECT pg_catalog.to_timestamp(
        (pg_catalog.floor(extract(epoch FROM pg_catalog.statement_timestamp()) / 30) + 1) * 30
      )
    $$
  `.execute(db)
  await sql`
    COMMENT ON FUNCTION usage_period_end() IS
      'End of the period that the running statement falls in; always in the future. The length of a period is defined here only.'
  `.execute(db)

  // The period comes first in the key: rows that are inserted and rows that are deleted then sit on different index
  // pages, and whole pages empty together. No foreign key: its check would lock and WAL-log the parent at every mark.
  // No sequence: a sequence owned by an UNLOGGED table is UNLOGGED too, which pg_upgrade trips over.
  await sql`
    CREATE UNLOGGED TABLE pending_usage (
      period_end timestamptz NOT NULL DEFAULT usage_period_end(),
      workspace_id uuid NOT NULL,
      source text NOT NULL DEFAULT coalesce(nullif(current_setting('application_name'), ''), 'unknown'),
      CONSTRAINT pending_usage_pkey PRIMARY KEY (period_end, workspace_id, source),
      CONSTRAINT pending_usage_source_length CHECK (char_length(source) BETWEEN 1 AND 63)
    ) WITH (
      autovacuum_vacuum_threshold = 1000,
      autovacuum_vacuum_scale_factor = 0.0,
      autovacuum_vacuum_insert_threshold = -1,
      autovacuum_vacuum_cost_delay = 0,
      vacuum_truncate = off
    )
  `.execute(db)
  await sql`
    COMMENT ON TABLE pending_usage IS
      'Marks that are not flushed yet: INSERT (workspace_id[, source]) … ON CONFLICT DO NOTHING, nothing else. UNLOGGED: emptied by a crash of the server.'
  `.execute(db)

  // One row, UNLOGGED like the marks, so that it is gone when they are: what tells a worker that marks were lost.
  await sql`
    CREATE UNLOGGED TABLE pending_usage_witness (
      present boolean CONSTRAINT pending_usage_witness_pkey PRIMARY KEY DEFAULT true,
      CONSTRAINT pending_usage_witness_single CHECK (present)
    )
  `.execute(db)
  await sql`INSERT INTO pending_usage_witness DEFAULT VALUES`.execute(db)
  await sql`
    COMMENT ON TABLE pending_usage_witness IS
      'One row. Where it is missing, pending_usage was emptied by a crash of the server or the promotion of a standby; the next flush says so and puts it back.'
  `.execute(db)

  // A host's own table is adopted as it is. Ours leaves room on each page and has no index on last_used_at, so that
  // setting it is a HOT update. The comment tells the way down that the table is ours.
  await sql`
    DO $$
    BEGIN
      IF to_regclass('workspaces') IS NULL THEN
        CREATE TABLE workspaces (
          id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
          last_used_at timestamptz
        ) WITH (fillfactor = 75);
        COMMENT ON TABLE workspaces IS 'Created by workspace-usage.';
        COMMENT ON COLUMN workspaces.last_used_at IS
          'End of the last period in which the workspace was marked; null: never used. Written by the flush only. Do not index it: that costs the HOT update.';
      END IF;
    END
    $$
  `.execute(db)
}

/** Drops what `up` created. A `workspaces` that the host made, or that holds rows, stays. */
export async function down(db: Kysely<never>): Promise<void> {
  await sql`
    DO $$
    BEGIN
      IF obj_description(to_regclass('workspaces'), 'pg_class') = 'Created by workspace-usage.'
        AND NOT EXISTS (SELECT FROM workspaces)
      THEN
        DROP TABLE workspaces;
      END IF;
    END
    $$
  `.execute(db)
  await sql`DROP TABLE pending_usage_witness`.execute(db)
  await sql`DROP TABLE pending_usage`.execute(db)
  await sql`DROP FUNCTION usage_period_end()`.execute(db)
}
