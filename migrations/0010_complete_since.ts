import { type Kysely, sql } from 'kysely'
import { marksSchema } from './0007_readers_see_all_or_an_error.ts'

/*
 * From when on are marks complete, and why were those before lost?
 *
 * usage_complete_since() answers the first question for everybody who reads the views. It is -infinity if no marks were
 * ever lost, so that it can be compared. While a loss has happened that no flush has noticed, it is the present.
 *
 * pending_usage_place answers the second one. It is LOGGED, and remembers where the marks were: in which database, on
 * which timeline of the WAL, in which file. A flush that finds the place as noted writes nothing. Otherwise:
 *
 * - promotion: the timeline is another one. Recovery to a point in time counts as well.
 * - crash: all is as noted, and the file of the witness is empty. PostgreSQL empties the files of UNLOGGED tables after a
 *   crash, and keeps their names.
 * - restore: the rows were written anew, or the database is a copy. How to see that: xmin of the anchor. It is the
 *   transaction that wrote that row. A copy of the files keeps it (pg_basebackup, pg_upgrade, CREATE DATABASE …
 *   TEMPLATE), and a dump does not. pg_repack writes rows anew as well, but in the same table of the same server.
 * - unknown: anything else, such as a DELETE by hand.
 *
 * A dump that brings its pending marks brings the witness too. It is older than the last mark nevertheless, so this is a
 * loss. If nothing was ever flushed there is nothing to lose: that is a template, of which tests make copies.
 */

export async function up(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  const place = sql.id(schema, 'pending_usage_place')
  const reset = sql.id(schema, 'pending_usage_reset')
  await sql`
    ALTER TABLE ${reset} ADD COLUMN reason text NOT NULL DEFAULT 'unknown'
      CONSTRAINT pending_usage_reset_reason CHECK (reason IN ('crash', 'promotion', 'restore', 'unknown'))
  `.execute(db)
  await sql`
    COMMENT ON TABLE ${reset} IS
      'When a flush noticed that pending marks were lost, and why. Marks between the two times may be missing. Delete a row if you know that none is.'
  `.execute(db)

  await sql`
    CREATE TABLE ${place} (
      noted boolean CONSTRAINT pending_usage_place_pkey PRIMARY KEY,
      anchor text,
      table_oid oid,
      database_oid oid,
      server_major integer,
      system_identifier text,
      timeline text,
      witness_file oid
    )
  `.execute(db)
  await sql`
    COMMENT ON TABLE ${place} IS
      'Where the marks were when a flush last looked. It tells a crash, a promotion and a restore apart. The row that is not noted is the anchor: nobody updates it.'
  `.execute(db)
  await createServerFunction(db, schema)
  // Without a witness the marks are lost already, and nothing tells why. So its file is not noted then.
  await sql`INSERT INTO ${place} (noted) VALUES (false)`.execute(db)
  await sql`
    INSERT INTO ${place}
    SELECT true, a.xmin::text, a.tableoid,
      (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),
      pg_catalog.current_setting('server_version_num')::integer / 10000, s.system_identifier, s.timeline,
      (SELECT pg_catalog.pg_relation_filenode(w.tableoid) FROM ${sql.id(schema, 'pending_usage_witness')} w)
    FROM ${place} a CROSS JOIN ${sql.id(schema, 'pending_usage_server')}() s
    WHERE NOT a.noted
  `.execute(db)
  await createCompleteSince(db, schema)
  await grantToRoles(db, schema)
}

export async function down(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  await sql`DROP FUNCTION ${sql.id(schema, 'usage_complete_since')}()`.execute(db)
  await sql`DROP FUNCTION ${sql.id(schema, 'pending_usage_server')}()`.execute(db)
  await sql`DROP TABLE ${sql.id(schema, 'pending_usage_place')}`.execute(db)
  await sql`ALTER TABLE ${sql.id(schema, 'pending_usage_reset')} DROP COLUMN reason`.execute(db)
  await sql`
    COMMENT ON TABLE ${sql.id(schema, 'pending_usage_reset')} IS
      'When a flush noticed that a crash or a promotion had emptied pending_usage. Marks between the two times may be lost.'
  `.execute(db)
}

/** Some managed servers lack these functions, or refuse them. Then the reason is unknown, and flushes go on. */
async function createServerFunction(db: Kysely<never>, schema: string): Promise<void> {
  await sql`
    CREATE FUNCTION ${sql.id(schema, 'pending_usage_server')}(OUT system_identifier text, OUT timeline text)
    LANGUAGE plpgsql VOLATILE
    AS $$
    BEGIN
      BEGIN
        system_identifier := (SELECT s.system_identifier FROM pg_catalog.pg_control_system() s);
      EXCEPTION WHEN OTHERS THEN
      END;
      BEGIN
        timeline := pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8);
      EXCEPTION WHEN OTHERS THEN
      END;
    END
    $$
  `.execute(db)
  await sql`
    COMMENT ON FUNCTION ${sql.id(schema, 'pending_usage_server')}() IS
      'The identity of this server and the timeline of its WAL, as far as it tells them. For pending_usage_place.'
  `.execute(db)
}

/**
 * Readers have no right on the tables, so it reads them as their owner. Its body is parsed here, once. So it reads these
 * tables, whatever search_path says later.
 */
async function createCompleteSince(db: Kysely<never>, schema: string): Promise<void> {
  const place = sql.id(schema, 'pending_usage_place')
  await sql`
    CREATE FUNCTION ${sql.id(schema, 'usage_complete_since')}() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
    BEGIN ATOMIC
      SELECT CASE
        WHEN NOT EXISTS (SELECT FROM ${sql.id(schema, 'pending_usage_witness')}) THEN pg_catalog.statement_timestamp()
        WHEN EXISTS (
          SELECT FROM ${place} p
          WHERE p.noted AND EXISTS (SELECT FROM ${sql.id(schema, 'source_usage')}) AND (
            p.anchor <> (SELECT a.xmin::text FROM ${place} a WHERE NOT a.noted)
            OR p.database_oid <> (
              SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
            )
          )
        ) THEN pg_catalog.statement_timestamp()
        ELSE coalesce(
          (SELECT pg_catalog.max(r.noticed_at) FROM ${sql.id(schema, 'pending_usage_reset')} r),
          timestamptz '-infinity'
        )
      END AS complete_since;
    END
  `.execute(db)
  await sql`
    COMMENT ON FUNCTION ${sql.id(schema, 'usage_complete_since')}() IS
      'From when on marks are complete: -infinity if none were ever lost. What was used before may look idle.'
  `.execute(db)
}

/**
 * Roles that may delete marks are workers, and roles that may read the views are readers. A host may have revoked EXECUTE
 * from PUBLIC for all new functions.
 */
async function grantToRoles(db: Kysely<never>, schema: string): Promise<void> {
  const { rows } = await sql<{ role: string; works: boolean }>`
    SELECT r.rolname AS role, bool_or(granted.privilege_type = 'DELETE') AS works
    FROM pg_catalog.pg_class c
    CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS granted
    JOIN pg_catalog.pg_roles r ON r.oid = granted.grantee
    WHERE r.oid <> c.relowner AND CASE
      WHEN c.oid = 'pending_usage'::regclass THEN granted.privilege_type = 'DELETE'
      ELSE c.oid IN ('workspace_activity'::regclass, 'workspace_activity_by_source'::regclass)
        AND granted.privilege_type = 'SELECT'
    END
    GROUP BY r.rolname ORDER BY r.rolname
  `.execute(db)
  for (const { role, works } of rows) {
    await sql`
      GRANT EXECUTE ON FUNCTION ${sql.id(schema, 'usage_complete_since')}() TO ${sql.id(role)}
    `.execute(db)
    if (!works) continue
    await sql`
      GRANT EXECUTE ON FUNCTION ${sql.id(schema, 'pending_usage_server')}() TO ${sql.id(role)}
    `.execute(db)
    await sql`
      GRANT SELECT, INSERT, UPDATE ON ${sql.id(schema, 'pending_usage_place')} TO ${sql.id(role)}
    `.execute(db)
  }
}
