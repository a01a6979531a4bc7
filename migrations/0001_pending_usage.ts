import { type Kysely, type RawBuilder, sql } from 'kysely'

/*
 * How usage becomes last_used_at.
 *
 * A service that sees a workspace in use marks it:
 *
 *     INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING;
 *
 * The row is keyed by the end of the period in which the mark falls. A period is a fixed slice of time by this server's
 * clock, and usage_period() is its length (migration 0004). So a thousand marks of a workspace by one source within a
 * period are one row, from however many processes they come. A marker does nothing else.
 *
 * A job flushes, once a minute by default. One statement deletes rows of closed periods, and sets last_used_at of their
 * workspaces to the newest of those ends. Marks go to the open period and the flush takes closed ones. So the two never
 * meet on a row, and neither waits for the other. If another transaction holds a workspace, the flush skips it, and its
 * rows stay for the next flush.
 *
 * pending_usage is UNLOGGED. Writing it costs almost no WAL. A clean restart keeps its rows. A crash of the server
 * removes them, and these marks are lost. What was flushed stays, because workspaces and workspace_usage are ordinary
 * tables. The witness is a row that is lost at the same moment. If it is missing, marks may be lost.
 *
 * The type of a workspace's id is the host's choice. If there is a table or view "workspaces" before the first migration,
 * all our tables take the type of its id: uuid, bigint, integer, or varchar with the collation of the host. The collation
 * is the same, so that an equality means the same on both sides, and reaches the indexes of both.
 *
 * Usage flows one way: mark, pending_usage, flush, workspaces and workspace_usage. Markers never read or delete. Only
 * the flush deletes. Nothing else writes last_used_at.
 */

/** The type of the ids of workspaces, as the migrations need it. */
export interface IdType {
  /** The type of a column, such as `uuid`. */
  column: RawBuilder<unknown>
  /** The type of a value in the views, and of an element of an array. */
  value: RawBuilder<unknown>
  /** No id comes before this one. */
  least: string
  /** An id as the views show it. They cast it if columns of ids can have different types. */
  shown(id: RawBuilder<unknown>): RawBuilder<unknown>
}

/** Reads which type a column of ids has. If there is no such relation, it is uuid. */
export async function idType(
  db: Kysely<never>,
  relation: 'workspaces' | 'pending_usage',
  column: 'id' | 'workspace_id',
): Promise<IdType> {
  const { rows } = await sql<{ type: string; schema: string | null; collation: string | null }>`
    SELECT pg_catalog.format_type(a.atttypid, NULL) AS type, n.nspname AS schema, c.collname AS collation
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation AND c.oid <> 'pg_catalog."default"'::regcollation
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
    WHERE a.attrelid = to_regclass(${relation}) AND a.attname = ${column} AND NOT a.attisdropped
  `.execute(db)
  const { type = 'uuid', schema, collation } = rows[0] ?? {}
  const asItIs = (id: RawBuilder<unknown>) => id
  switch (type) {
    case 'bigint':
      return { column: sql`bigint`, value: sql`bigint`, least: '-9223372036854775808', shown: asItIs }
    case 'integer':
      return { column: sql`integer`, value: sql`integer`, least: '-2147483648', shown: asItIs }
    case 'text':
    case 'character varying': {
      const collated = schema && collation ? sql` COLLATE ${sql.id(schema, collation)}` : sql``
      return {
        column: sql`varchar(255)${collated}`,
        value: sql`text`,
        least: '',
        shown: id => sql`${id}::text`,
      }
    }
    default:
      return {
        column: sql`uuid`,
        value: sql`uuid`,
        least: '00000000-0000-0000-0000-000000000000',
        shown: asItIs,
      }
  }
}

export async function up(db: Kysely<never>): Promise<void> {
  const { column: id } = await idType(db, 'workspaces', 'id')
  // Not now(), because in a long transaction now() names a period that closed long ago. Such a mark would get an
  // end that is earlier than the mark itself. Migration 0004 replaces this function.
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

  // The period comes first in the key. So inserts and deletes work on different index pages, and whole pages become
  // empty together. There is no foreign key, because its check would lock the workspace and write WAL at every mark.
  // There is no sequence, because that of an UNLOGGED table is UNLOGGED too, and pg_upgrade fails on it.
  await sql`
    CREATE UNLOGGED TABLE pending_usage (
      period_end timestamptz NOT NULL DEFAULT usage_period_end(),
      workspace_id ${id} NOT NULL,
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

  // One row, UNLOGGED like the marks, so both are lost together. A worker that misses it knows that marks may be lost.
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

  // A host's own table is adopted as it is. Ours leaves room on each page and has no index on last_used_at, so that a
  // flush is a HOT update. down() recognises our table by its comment.
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

/**
 * Drops what `up` created, and the view of an adopted table. A `workspaces` that the host made, or that holds rows,
 * stays.
 */
export async function down(db: Kysely<never>): Promise<void> {
  await sql`
    DO $$
    BEGIN
      IF obj_description(to_regclass('workspaces'), 'pg_class') = 'Created by workspace-usage.'
        AND NOT EXISTS (SELECT FROM workspaces)
      THEN
        DROP TABLE workspaces;
      ELSIF obj_description(to_regclass('workspaces'), 'pg_class') = 'Created by workspace-usage: the workspaces of the host.'
      THEN
        DROP VIEW workspaces;
      END IF;
    END
    $$
  `.execute(db)
  await sql`DROP TABLE pending_usage_witness`.execute(db)
  await sql`DROP TABLE pending_usage`.execute(db)
  await sql`DROP FUNCTION usage_period_end()`.execute(db)
}
