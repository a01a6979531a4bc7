import { type Kysely, sql } from 'kysely'
import { idType } from './0001_pending_usage.ts'

/*
 * The views become right, or a refusal, whatever the host's table holds and whoever owns it.
 *
 * A use. Some hosts write a time into last_used_at that means "never": NULL, -infinity, infinity, the first day of the
 * calendar, the Unix epoch. So a last use is a finite time from 1970-01-02 on. (The epoch is before that in every time
 * zone.) Anything else is shown as NULL. A finite time in the future is shown as it is: it may be a clock that is
 * ahead, or a host that wants to keep a workspace.
 *
 * Row security. A view reads its tables with the rights of its owner. If row security hides rows from that role,
 * readers would get wrong answers without an error. no_hidden_usage() raises an error then. It returns no rows, and is
 * the first branch of each view. As a condition it would not be called where PostgreSQL knows that there are no rows,
 * and that is so for a table without policies.
 */

type Sql = ReturnType<typeof sql>

/** The distinct periods of a table of marks, as in migration 0003. */
const periodsOf = (table: Sql) => sql`
  RECURSIVE period (period_end) AS (
    (SELECT period_end FROM ${table} ORDER BY period_end LIMIT 1)
    UNION ALL
    SELECT next.period_end
    FROM period CROSS JOIN LATERAL (
      SELECT u.period_end FROM ${table} u
      WHERE u.period_end > period.period_end
      ORDER BY u.period_end LIMIT 1
    ) next
  )`

const marksOf = (table: Sql) => sql`
  SELECT workspace_id, period_end, source FROM ${table}
  WHERE period_end = ANY (ARRAY (SELECT period_end FROM period))`

/** What differs between the views before and after a migration. */
export interface Shape {
  /** The common table expression "period". */
  periods: Sql
  /** All marks. */
  marks: Sql
  /** The flushed last use of `w`, a row of "workspaces". NULL if it was never used. */
  lastUsedAt: Sql
  /** Adds the check of row security to the query of a view. */
  checked(schema: string, view: string, columns: Sql, query: Sql): Sql
}

/** The first one stands beside the views. */
const READ_TABLES = ['pending_usage', 'set_aside_usage', 'workspaces', 'workspace_usage']

const BEFORE: Shape = {
  periods: periodsOf(sql`pending_usage`),
  marks: marksOf(sql`pending_usage`),
  lastUsedAt: sql`w.last_used_at`,
  checked: (_schema, _view, _columns, query) => query,
}

/**
 * Marks that are set aside may be of a thousand periods, so they are found by their workspace. If both tables were read
 * as one, PostgreSQL would sort all marks for each period.
 */
export const AFTER: Shape = {
  periods: periodsOf(sql`ONLY pending_usage`),
  marks: sql`${marksOf(sql`ONLY pending_usage`)} UNION ALL SELECT workspace_id, period_end, source FROM set_aside_usage`,
  lastUsedAt: sql`
    CASE WHEN w.last_used_at >= '1970-01-02 00:00:00Z' AND w.last_used_at < 'infinity' THEN w.last_used_at END`,
  checked: (schema, view, columns, query) => sql`
    SELECT ${columns}
    FROM ${sql.id(schema, 'no_hidden_usage')}(
      ${sql.lit(view)}, ARRAY[${sql.join(READ_TABLES.map(table => sql`${sql.lit(table)}::regclass`))}]
    )
    UNION ALL
    (${query})`,
}

const VIEWS = ['workspace_activity', 'workspace_activity_by_source']

export async function up(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  await sql`
    CREATE INDEX set_aside_usage_workspace ON ${sql.id(schema, 'set_aside_usage')} (workspace_id, period_end, source)
  `.execute(db)
  await createVisibilityCheck(db, schema)
  await copyReaders(db, schema)
  await createViews(db, schema, AFTER)
}

/** Takes back what `up` did. The views keep their columns, so readers keep their rights. */
export async function down(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  await createViews(db, schema, BEFORE)
  await sql`DROP INDEX ${sql.id(schema, 'set_aside_usage_workspace')}`.execute(db)
  await sql`DROP FUNCTION ${sql.id(schema, 'no_hidden_usage')}(name, regclass[])`.execute(db)
}

/**
 * Row security applies to everybody but superusers, roles with BYPASSRLS, and whoever has the rights of the owner. With
 * FORCE it applies to the owner too. A view below ours, such as an adopted "workspaces", reads with the rights of its
 * own owner.
 */
async function createVisibilityCheck(db: Kysely<never>, schema: string): Promise<void> {
  const { value: id } = await idType(db, 'pending_usage', 'workspace_id')
  const readsAsCaller = sql`coalesce(c.reloptions::text, '') ~ 'security_invoker=(true|on|yes|1)'`
  // It is given the name of the view, which stands beside the first table. The view can't give its own oid, because a
  // dump of it could not be restored. In most databases the first query answers.
  await sql`
    CREATE FUNCTION ${sql.id(schema, 'no_hidden_usage')}(view_name name, tables regclass[])
    RETURNS TABLE (workspace_id ${id}, last_used_at timestamptz, source text, pending boolean)
    LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 1
    AS $$
    DECLARE
      reader oid;
      hidden record;
    BEGIN
      IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_class c WHERE c.oid = ANY (tables) AND (c.relrowsecurity OR c.relkind = 'v')
      ) THEN
        RETURN;
      END IF;
      SELECT CASE WHEN ${readsAsCaller} THEN to_regrole(quote_ident(current_user)) ELSE c.relowner END INTO reader
      FROM pg_catalog.pg_class c
      WHERE c.relname = view_name
        AND c.relnamespace = (SELECT t.relnamespace FROM pg_catalog.pg_class t WHERE t.oid = tables[1]);
      WITH RECURSIVE read (relation, role) AS (
        SELECT c.oid, reader FROM pg_catalog.pg_class c WHERE c.oid = ANY (tables)
        UNION
        SELECT d.refobjid, CASE WHEN ${readsAsCaller} THEN read.role ELSE c.relowner END
        FROM read
        JOIN pg_catalog.pg_class c ON c.oid = read.relation AND c.relkind = 'v'
        JOIN pg_catalog.pg_rewrite rule ON rule.ev_class = c.oid
        JOIN pg_catalog.pg_depend d
          ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = rule.oid
          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> c.oid
      )
      SELECT c.relname AS table_name, r.rolname AS role_name INTO hidden
      FROM read
      JOIN pg_catalog.pg_class c ON c.oid = read.relation
      JOIN pg_catalog.pg_roles r ON r.oid = read.role
      WHERE c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
        AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'))
      LIMIT 1;
      IF FOUND THEN
        RAISE insufficient_privilege USING
          MESSAGE = format(
            'row-level security of table "%s" may hide rows from role "%s", with whose rights view "%s" reads',
            hidden.table_name, hidden.role_name, view_name
          ),
          HINT = 'Let the role inherit from the owner of the table, without FORCE ROW LEVEL SECURITY, or ALTER ROLE … BYPASSRLS.',
          TABLE = hidden.table_name,
          CONSTRAINT = 'no_hidden_usage';
      END IF;
    END
    $$
  `.execute(db)
  await sql`
    COMMENT ON FUNCTION ${sql.id(schema, 'no_hidden_usage')}(name, regclass[]) IS
      'No rows. An error if row-level security may hide rows from a view of workspace-usage, which would then be wrong.'
  `.execute(db)
}

/**
 * Grants no_hidden_usage() to all who may read the views, because a function in a view is called as the reader. A host
 * may have revoked EXECUTE from PUBLIC for all new functions.
 */
async function copyReaders(db: Kysely<never>, schema: string): Promise<void> {
  const { rows } = await sql<{ role: string }>`
    SELECT DISTINCT r.rolname AS role
    FROM pg_catalog.pg_class v
    CROSS JOIN LATERAL pg_catalog.aclexplode(v.relacl) AS granted
    JOIN pg_catalog.pg_roles r ON r.oid = granted.grantee
    WHERE v.oid = ANY (${VIEWS}::text[]::regclass[]) AND granted.privilege_type = 'SELECT' AND r.oid <> v.relowner
    ORDER BY r.rolname
  `.execute(db)
  for (const { role } of rows) {
    await sql`
      GRANT EXECUTE ON FUNCTION ${sql.id(schema, 'no_hidden_usage')}(name, regclass[]) TO ${sql.id(role)}
    `.execute(db)
  }
}

/** The schema of pending_usage. It may differ from the one in which search_path creates new objects. */
export async function marksSchema(db: Kysely<never>): Promise<string> {
  const { rows } = await sql<{ schema: string }>`
    SELECT n.nspname AS schema
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = 'pending_usage'::regclass
  `.execute(db)
  return rows[0]!.schema
}

/** Creates the views of migration 0003 in this shape. */
export async function createViews(
  db: Kysely<never>,
  schema: string,
  { periods, marks, lastUsedAt, checked }: Shape,
): Promise<void> {
  const { shown } = await idType(db, 'pending_usage', 'workspace_id')
  const activity = sql`
    WITH ${periods}
    SELECT
      ${shown(sql`w.id`)} AS workspace_id,
      CASE WHEN live.pending THEN least(p.period_end, statement_timestamp()) ELSE flushed.last_used_at END
        AS last_used_at,
      CASE WHEN live.pending THEN p.source ELSE f.source END AS source,
      live.pending
    FROM workspaces w
    LEFT JOIN (
      SELECT DISTINCT ON (workspace_id) workspace_id, period_end, source
      FROM (${marks}) marks
      ORDER BY workspace_id, period_end DESC, source
    ) p ON p.workspace_id = w.id
    LEFT JOIN (
      SELECT workspace_id, last_used_at, min(source) AS source
      FROM workspace_usage
      GROUP BY workspace_id, last_used_at
    ) f ON f.workspace_id = w.id AND f.last_used_at = w.last_used_at
    CROSS JOIN LATERAL (SELECT ${lastUsedAt} AS last_used_at) flushed
    CROSS JOIN LATERAL (
      SELECT p.period_end IS NOT NULL AND coalesce(p.period_end > flushed.last_used_at, true) AS pending
    ) live`
  const activityColumns = sql`workspace_id, last_used_at, source, pending`
  await sql`
    CREATE OR REPLACE VIEW ${sql.id(schema, 'workspace_activity')} AS
    ${checked(schema, 'workspace_activity', activityColumns, activity)}
  `.execute(db)

  const bySource = sql`
    WITH ${periods}
    SELECT
      ${shown(sql`latest.workspace_id`)} AS workspace_id,
      latest.source,
      CASE WHEN live.pending THEN least(latest.period_end, statement_timestamp()) ELSE latest.last_used_at END
        AS last_used_at,
      live.pending
    FROM (
      SELECT workspace_id, source, max(period_end) AS period_end, max(last_used_at) AS last_used_at
      FROM (
        SELECT workspace_id, source, NULL::timestamptz AS period_end, last_used_at FROM workspace_usage
        UNION ALL
        SELECT workspace_id, source, period_end, NULL::timestamptz FROM (${marks}) marks
      ) used
      GROUP BY workspace_id, source
    ) latest
    CROSS JOIN LATERAL (
      SELECT latest.period_end IS NOT NULL AND coalesce(latest.period_end > latest.last_used_at, true)
        AS pending
    ) live`
  const bySourceColumns = sql`workspace_id, source, last_used_at, pending`
  await sql`
    CREATE OR REPLACE VIEW ${sql.id(schema, 'workspace_activity_by_source')} AS
    ${checked(schema, 'workspace_activity_by_source', bySourceColumns, bySource)}
  `.execute(db)
}
