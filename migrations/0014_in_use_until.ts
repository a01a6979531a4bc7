import { type Kysely, sql } from 'kysely'
import { createActivityViews, dropActivityViews, keepingGrants } from '../src/schema/activity-views.ts'
import { AFTER, createViews, marksSchema } from './0007_readers_see_all_or_an_error.ts'
import { workerRoles } from './0008_sources_and_resets.ts'

/*
 * In use until a time ahead, without heartbeats: a mark whose period ends then.
 *
 * Such a mark is not among the others. Each has an end of its own, and the views walk over the periods of pending_usage
 * one by one. It is set aside, where it is found by its workspace, until a flush finds it due.
 *
 * A plain marker can't choose a period. So two functions do it, with the rights of their owner. Who may call them is a
 * duty of its own. They are SQL, and parsed here, once. So search_path does not matter to them.
 */

export async function up(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  const setAside = sql.id(schema, 'set_aside_usage')
  await sql`ALTER TABLE ${setAside} ADD COLUMN used_from timestamptz`.execute(db)
  await sql`
    COMMENT ON COLUMN ${setAside}.used_from IS
      'Since when the workspace is in use, if it is in use until period_end. Null: for one period.'
  `.execute(db)
  await sql`ALTER TABLE ${setAside} DROP CONSTRAINT set_aside_usage_reason`.execute(db)
  await sql`
    ALTER TABLE ${setAside} ADD CONSTRAINT set_aside_usage_reason
      CHECK (reason IN ('held', 'awaited', 'refused', 'until'))
  `.execute(db)
  await sql`
    CREATE INDEX set_aside_usage_until ON ${setAside} (next_attempt_at) WHERE reason = 'until'
  `.execute(db)
  await createLimit(db, schema)
  await createCheck(db, schema)
  await createMarkUntil(db, schema)
  await createEndUntil(db, schema)
  await createActivityViews(db, schema)
  await grantToReaders(db, schema)
}

export async function down(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  const setAside = sql.id(schema, 'set_aside_usage')
  const id = await idType(db)
  await keepingGrants(db, schema, async () => {
    await dropActivityViews(db, schema)
    const periods = sql`period AS (SELECT period_end FROM ${sql.id(schema, 'pending_usage_period')})`
    await createViews(db, schema, { ...AFTER, periods })
  })
  await sql`DROP FUNCTION ${sql.id(schema, 'end_usage_until')}(${id}, text, boolean)`.execute(db)
  await sql`DROP FUNCTION ${sql.id(schema, 'mark_usage_until')}(${id}, timestamptz, text)`.execute(db)
  await sql`DROP FUNCTION ${sql.id(schema, 'refuse_usage_until')}(timestamptz, interval, text)`.execute(db)
  await sql`DROP FUNCTION ${sql.id(schema, 'usage_until_limit')}()`.execute(db)
  // What was to be in use until a time ahead was in use until now.
  await sql`
    UPDATE ${setAside} SET reason = 'awaited', next_attempt_at = statement_timestamp(),
      period_end = least(period_end, statement_timestamp())
    WHERE reason = 'until'
  `.execute(db)
  await sql`DROP INDEX ${sql.id(schema, 'set_aside_usage_until')}`.execute(db)
  await sql`ALTER TABLE ${setAside} DROP CONSTRAINT set_aside_usage_reason`.execute(db)
  await sql`
    ALTER TABLE ${setAside} ADD CONSTRAINT set_aside_usage_reason CHECK (reason IN ('held', 'awaited', 'refused'))
  `.execute(db)
  await sql`ALTER TABLE ${setAside} DROP COLUMN used_from`.execute(db)
}

/** STABLE for the reason that migration 0004 gives for usage_period(). */
async function createLimit(db: Kysely<never>, schema: string): Promise<void> {
  const limit = sql.id(schema, 'usage_until_limit')
  await sql`
    CREATE FUNCTION ${limit}() RETURNS interval
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN interval '24 hours'
  `.execute(db)
  await sql`
    COMMENT ON FUNCTION ${limit}() IS
      'How far ahead a workspace can be in use. Change it with "workspace-usage migrate --until-limit".'
  `.execute(db)
  // The health verdict of a worker calls it. A host may have revoked EXECUTE from PUBLIC.
  for (const role of await workerRoles(db)) {
    await sql`GRANT EXECUTE ON FUNCTION ${limit}() TO ${sql.id(role)}`.execute(db)
  }
}

/**
 * Only PL/pgSQL can raise an error, and its text is parsed at each first call. So it names no object of ours. It runs with
 * the rights of the owner, so search_path must not lead it to operators of the caller. The error has the latest time that
 * is allowed in its field "column", as ISO 8601, because a client can't ask for it in a transaction that failed.
 */
async function createCheck(db: Kysely<never>, schema: string): Promise<void> {
  const check = sql.id(schema, 'refuse_usage_until')
  await sql`
    CREATE FUNCTION ${check}(until timestamptz, longest interval, source text) RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
      present constant timestamptz := clock_timestamp();
      -- A day of an interval may have 23 hours.
      latest constant timestamptz := present + date_part('epoch', longest) * interval '1 second';
    BEGIN
      IF until IS NULL OR until <= present OR until > latest THEN
        RAISE invalid_parameter_value USING
          MESSAGE = format('a workspace can''t be in use until %s', coalesce(until::text, 'NULL')),
          DETAIL = format('It must be after now (%s) and not after %s.', present, latest),
          HINT = 'Call again later to prolong the use, or let the owner run workspace-usage migrate --until-limit.',
          CONSTRAINT = 'usage_until',
          COLUMN = to_char(latest AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
      END IF;
      IF char_length(source) NOT BETWEEN 1 AND 63 THEN
        RAISE invalid_parameter_value USING
          MESSAGE = format('"%s" is no source', source),
          DETAIL = 'A source has 1 to 63 characters.',
          CONSTRAINT = 'usage_source';
      END IF;
      RETURN present;
    END
    $$
  `.execute(db)
  await sql`
    COMMENT ON FUNCTION ${check}(timestamptz, interval, text) IS
      'Part of mark_usage_until(): an error if the time or the source is not allowed, else the present.'
  `.execute(db)
}

const APPLICATION = sql`pg_catalog.left(coalesce(nullif(pg_catalog.current_setting('application_name'), ''), 'unknown'), 63)`

/**
 * A later end takes the place of an earlier one of the same source, so that a job which prolongs its use every minute has
 * one mark. An earlier end does not: another job of the same source may need the later one. Nobody is waited for.
 */
async function createMarkUntil(db: Kysely<never>, schema: string): Promise<void> {
  const [pending, setAside] = ['pending_usage', 'set_aside_usage'].map(name => sql.id(schema, name))
  const id = await idType(db)
  const mark = sql.id(schema, 'mark_usage_until')
  const source = sql`coalesce($3, ${APPLICATION})`
  await sql`
    CREATE FUNCTION ${mark}(workspace_id ${id}, until timestamptz, source text DEFAULT NULL) RETURNS timestamptz
    LANGUAGE sql VOLATILE SECURITY DEFINER
    BEGIN ATOMIC
      SELECT ${sql.id(schema, 'refuse_usage_until')}($2, ${sql.id(schema, 'usage_until_limit')}(), ${source});
      INSERT INTO ${pending} (workspace_id, source) VALUES ($1, ${source}) ON CONFLICT DO NOTHING;
      WITH earlier AS MATERIALIZED (
        SELECT u.ctid AS place, u.period_end, u.used_from FROM ${setAside} u
        WHERE u.workspace_id = $1 AND u.source = ${source} AND u.reason = 'until'
          AND u.period_end > pg_catalog.clock_timestamp()
        FOR UPDATE SKIP LOCKED
      ), replaced AS (
        DELETE FROM ${setAside} u
        WHERE u.ctid = ANY (ARRAY (SELECT e.place FROM earlier e WHERE e.period_end < $2))
      )
      INSERT INTO ${setAside} (period_end, workspace_id, source, reason, next_attempt_at, used_from)
      SELECT $2 AS period_end, $1 AS workspace_id, ${source} AS source, 'until' AS reason, $2 AS next_attempt_at,
        least(pg_catalog.clock_timestamp(), (SELECT min(e.used_from) FROM earlier e WHERE e.period_end < $2)) AS used_from
      WHERE NOT EXISTS (SELECT FROM earlier e WHERE e.period_end >= $2)
      ON CONFLICT DO NOTHING;
      SELECT max(u.period_end) FROM ${setAside} u
      WHERE u.workspace_id = $1 AND u.source = ${source} AND u.reason = 'until';
    END
  `.execute(db)
  await sql`
    COMMENT ON FUNCTION ${mark}(${id}, timestamptz, text) IS
      'Marks a workspace as in use now and until a time ahead; returns the latest such time of this source. For holders. A pending mark: a crash of the server ends it.'
  `.execute(db)
  await sql`REVOKE ALL ON FUNCTION ${mark}(${id}, timestamptz, text) FROM PUBLIC`.execute(db)
}

/** The workspace was in use until now. The next flush finds the mark due. */
async function createEndUntil(db: Kysely<never>, schema: string): Promise<void> {
  const setAside = sql.id(schema, 'set_aside_usage')
  const id = await idType(db)
  const end = sql.id(schema, 'end_usage_until')
  await sql`
    CREATE FUNCTION ${end}(workspace_id ${id}, source text DEFAULT NULL, every_source boolean DEFAULT false)
    RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER
    BEGIN ATOMIC
      WITH ended AS (
        DELETE FROM ${setAside} u
        WHERE u.ctid = ANY (ARRAY (
          SELECT h.ctid FROM ${setAside} h
          WHERE h.workspace_id = $1 AND h.reason = 'until' AND h.period_end > pg_catalog.clock_timestamp()
            AND (coalesce($3, false) OR h.source = coalesce($2, ${APPLICATION}))
          FOR UPDATE SKIP LOCKED
        ))
        RETURNING u.workspace_id, u.source, u.used_from
      ), kept AS (
        INSERT INTO ${setAside} (period_end, workspace_id, source, reason, next_attempt_at, used_from)
        SELECT pg_catalog.clock_timestamp(), e.workspace_id, e.source, 'until', pg_catalog.clock_timestamp(), e.used_from
        FROM ended e
        ON CONFLICT DO NOTHING
      )
      SELECT count(*) FROM ended;
    END
  `.execute(db)
  await sql`
    COMMENT ON FUNCTION ${end}(${id}, text, boolean) IS
      'Ends a use until a time ahead, of one source or of every one; returns how many it ended. For holders.'
  `.execute(db)
  await sql`REVOKE ALL ON FUNCTION ${end}(${id}, text, boolean) FROM PUBLIC`.execute(db)
}

/** The type of the ids, without its length: that of a function has none. */
async function idType(db: Kysely<never>): Promise<ReturnType<typeof sql>> {
  const { rows } = await sql<{ type: string }>`
    SELECT pg_catalog.format_type(atttypid, NULL) AS type FROM pg_catalog.pg_attribute
    WHERE attrelid = 'pending_usage'::regclass AND attname = 'workspace_id'
  `.execute(db)
  return sql.raw(rows[0]!.type)
}

/** Readers see the new view, and call usage_period() in it. A host may have revoked EXECUTE from PUBLIC. */
async function grantToReaders(db: Kysely<never>, schema: string): Promise<void> {
  const { rows } = await sql<{ role: string }>`
    SELECT DISTINCT r.rolname AS role
    FROM pg_catalog.pg_class v
    CROSS JOIN LATERAL pg_catalog.aclexplode(v.relacl) AS granted
    JOIN pg_catalog.pg_roles r ON r.oid = granted.grantee
    WHERE v.oid = 'workspace_activity'::regclass AND granted.privilege_type = 'SELECT' AND r.oid <> v.relowner
    ORDER BY r.rolname
  `.execute(db)
  for (const { role } of rows) {
    await sql`GRANT SELECT ON ${sql.id(schema, 'workspace_usage_daily')} TO ${sql.id(role)}`.execute(db)
    await sql`GRANT EXECUTE ON FUNCTION ${sql.id(schema, 'usage_period')}() TO ${sql.id(role)}`.execute(db)
  }
}
