import { type Kysely, type RawBuilder, sql } from 'kysely'
import { SLOT_SECONDS, SLOTS_OF_A_DAY, usedDays } from '../database/used-days.ts'
import { workspaceIdType } from '../database/workspace-id-type.ts'
import { countedUses } from './counted-use.ts'
import { createNotedPeriods, dropNotedPeriods, marksOf } from './marks-of-views.ts'

/*
 * The views that show flushed and pending usage in one snapshot. migrations/0003 and 0009 explain why a lookup of one
 * workspace is cheap among millions, whatever the planner believes of pending_usage.
 *
 * They are written here, and not in a migration, because they depend on the host's table as well: it may get a column
 * created_at at any time. Columns are only ever added at the end, so that they can be replaced in place.
 *
 * A source that does not count is left out of workspace_activity at once, also for what was flushed before: see
 * counted-use.ts. That is one expression that is not looked at while every source counts.
 */

/** The names of the views. */
export const ACTIVITY_VIEWS = [
  'workspace_activity',
  'workspace_activity_by_source',
  'workspace_usage_daily',
] as const

/** Beside the first one stand the views. */
const READ_TABLES = [
  'pending_usage',
  'set_aside_usage',
  'workspaces',
  'workspace_usage',
  'workspace_usage_day',
  'source_usage',
]

/** Creates or replaces the views. Grants on them stay. */
export async function createActivityViews(db: Kysely<never>, schema: string): Promise<void> {
  // Of a varchar, so that all views show one type, whatever the length of the host's is.
  const isText = (await workspaceIdType(db)) === 'text'
  const id = (column: RawBuilder<unknown>) => (isText ? sql`${column}::text` : column)
  const createdAt = (await hasCreatedAt(db)) ? finite(sql`w.created_at`) : sql`NULL::timestamptz`
  const views: Record<(typeof ACTIVITY_VIEWS)[number], RawBuilder<unknown>> = {
    workspace_activity: checked(
      schema,
      'workspace_activity',
      ACTIVITY_COLUMNS,
      activity(schema, id, createdAt),
    ),
    workspace_activity_by_source: checked(
      schema,
      'workspace_activity_by_source',
      BY_SOURCE_COLUMNS,
      bySource(schema, id),
    ),
    workspace_usage_daily: checked(schema, 'workspace_usage_daily', DAILY_COLUMNS, daily(schema, id)),
  }
  await createNotedPeriods(db, schema)
  for (const view of ACTIVITY_VIEWS) {
    await sql`CREATE OR REPLACE VIEW ${sql.id(schema, view)} AS ${views[view]}`.execute(db)
    await sql`COMMENT ON VIEW ${sql.id(schema, view)} IS ${sql.lit(COMMENTS[view])}`.execute(db)
  }
}

/** Drops them. To go back to an older form, with fewer columns, nothing else helps. */
export async function dropActivityViews(db: Kysely<never>, schema: string): Promise<void> {
  for (const view of ACTIVITY_VIEWS) await sql`DROP VIEW ${sql.id(schema, view)}`.execute(db)
  await dropNotedPeriods(db, schema)
}

/** Runs something that drops the views and creates them again, and then grants what was granted before. */
export async function keepingGrants(
  db: Kysely<never>,
  schema: string,
  recreate: () => Promise<void>,
): Promise<void> {
  const { rows } = await sql<{ view: string; role: string | null; privilege: string }>`
    SELECT c.relname AS view, r.rolname AS role, granted.privilege_type AS privilege
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS granted
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = granted.grantee
    WHERE n.nspname = ${schema} AND c.relname = ANY (${[...ACTIVITY_VIEWS]}::text[]) AND granted.grantee <> c.relowner
  `.execute(db)
  await recreate()
  for (const { view, role, privilege } of rows) {
    if (
      (
        await sql`SELECT WHERE to_regclass(format('%I.%I', ${schema}::text, ${view}::text)) IS NOT NULL`.execute(
          db,
        )
      ).rows.length === 0
    )
      continue
    await sql`
      GRANT ${sql.raw(privilege)} ON ${sql.id(schema, view)} TO ${role === null ? sql`PUBLIC` : sql.id(role)}
    `.execute(db)
  }
}

const COMMENTS = {
  workspace_activity:
    'Last use of each workspace, pending use included. source is null if the workspace was never used or it is not known who did.',
  workspace_activity_by_source:
    'Last use of each workspace by each source, pending use included; also of ids that are marked and not in workspaces.',
  workspace_usage_daily:
    'Minutes in which each source used each workspace on a day (UTC), in slots of five minutes, pending use included.',
}

const ACTIVITY_COLUMNS = sql`workspace_id, last_used_at, source, pending, NULL::timestamptz AS used_until,
      NULL::timestamptz AS created_at`
const BY_SOURCE_COLUMNS = sql`workspace_id, source, last_used_at, pending, NULL::boolean AS counts,
      NULL::timestamptz AS used_until`
const DAILY_COLUMNS = sql`workspace_id, NULL::date AS day, source, NULL::integer AS minutes_used,
      NULL::timestamptz AS first_used_at, last_used_at, NULL::bit(${sql.lit(SLOTS_OF_A_DAY)}) AS slots`

/** Adds the check of row security to the query of a view. migrations/0007 explains it. */
function checked(
  schema: string,
  view: string,
  columns: RawBuilder<unknown>,
  query: RawBuilder<unknown>,
): RawBuilder<unknown> {
  const tables = sql.join(READ_TABLES.map(table => sql`${sql.lit(table)}::regclass`))
  return sql`
    SELECT ${columns}
    FROM ${sql.id(schema, 'no_hidden_usage')}(${sql.lit(view)}, ARRAY[${tables}])
    UNION ALL
    (${query})`
}

/** A time that means something. What some hosts write for "never" becomes NULL. */
function finite(time: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`CASE WHEN ${time} >= '1970-01-02 00:00:00Z'::timestamptz AND ${time} < 'infinity'::timestamptz THEN ${time} END`
}

/** The sources that do not count, read once for a query. There is an index of them alone. */
function ignoredSources(schema: string): RawBuilder<unknown> {
  return sql`ignored AS MATERIALIZED (SELECT source FROM ${sql.id(schema, 'source_usage')} WHERE NOT counts)`
}

const IGNORED = sql`ARRAY (SELECT source FROM ignored)`

type Shown = (id: RawBuilder<unknown>) => RawBuilder<unknown>

function activity(schema: string, shown: Shown, createdAt: RawBuilder<unknown>): RawBuilder<unknown> {
  const counted = countedUses(schema, { sources: IGNORED, exist: sql`EXISTS (SELECT FROM ignored)` })
  return sql`
    WITH ${ignoredSources(schema)}
    SELECT
      ${shown(sql`w.id`)} AS workspace_id,
      CASE WHEN live.pending THEN least(p.period_end, statement_timestamp()) ELSE flushed.last_used_at END
        AS last_used_at,
      CASE WHEN live.pending THEN p.source ELSE f.source END AS source,
      live.pending,
      CASE WHEN p.until AND p.period_end > statement_timestamp() THEN p.period_end END AS used_until,
      ${createdAt} AS created_at
    FROM workspaces w
    LEFT JOIN (
      SELECT DISTINCT ON (workspace_id) workspace_id, period_end, source, until
      FROM (${marksOf(schema)}) marks
      WHERE source <> ALL (${IGNORED})
      ORDER BY workspace_id, period_end DESC, source
    ) p ON p.workspace_id = w.id
    LEFT JOIN ${counted} counted ON counted.workspace_id = w.id
    CROSS JOIN LATERAL (
      SELECT CASE WHEN w.last_used_at >= '1970-01-02 00:00:00Z'::timestamptz AND w.last_used_at < 'infinity'::timestamptz
        THEN CASE WHEN counted.ignored THEN counted.last_used_at ELSE w.last_used_at END
      END AS last_used_at
    ) flushed
    LEFT JOIN (
      SELECT workspace_id, last_used_at, min(source) AS source
      FROM workspace_usage
      WHERE source <> ALL (${IGNORED})
      GROUP BY workspace_id, last_used_at
    ) f ON f.workspace_id = w.id AND f.last_used_at = flushed.last_used_at
    CROSS JOIN LATERAL (
      SELECT p.period_end IS NOT NULL AND coalesce(p.period_end > flushed.last_used_at, true) AS pending
    ) live`
}

function bySource(schema: string, shown: Shown): RawBuilder<unknown> {
  return sql`
    WITH ${ignoredSources(schema)}
    SELECT
      ${shown(sql`latest.workspace_id`)} AS workspace_id,
      latest.source,
      CASE WHEN live.pending THEN least(latest.period_end, statement_timestamp()) ELSE latest.last_used_at END
        AS last_used_at,
      live.pending,
      latest.source <> ALL (${IGNORED}) AS counts,
      CASE WHEN latest.used_until > statement_timestamp() THEN latest.used_until END AS used_until
    FROM (
      SELECT workspace_id, source, max(period_end) AS period_end, max(last_used_at) AS last_used_at,
        max(used_until) AS used_until
      FROM (
        SELECT workspace_id, source, NULL::timestamptz AS period_end, last_used_at, NULL::timestamptz AS used_until
        FROM workspace_usage
        UNION ALL
        SELECT workspace_id, source, period_end, NULL::timestamptz, CASE WHEN until THEN period_end END
        FROM (${marksOf(schema)}) marks
      ) used
      GROUP BY workspace_id, source
    ) latest
    CROSS JOIN LATERAL (
      SELECT latest.period_end IS NOT NULL AND coalesce(latest.period_end > latest.last_used_at, true)
        AS pending
    ) live`
}

function daily(schema: string, shown: Shown): RawBuilder<unknown> {
  return sql`
    SELECT ${shown(sql`workspace_id`)} AS workspace_id, day, source,
      (${sql.lit(SLOT_SECONDS / 60)} * bit_count(bit_or(slots)))::integer AS minutes_used,
      min(first_used_at) AS first_used_at, max(last_used_at) AS last_used_at,
      bit_or(slots)::bit(${sql.lit(SLOTS_OF_A_DAY)}) AS slots
    FROM (
      SELECT workspace_id, day, source, slots, first_used_at, last_used_at FROM ${sql.id(schema, 'workspace_usage_day')}
      WHERE day > '1970-01-01'::date
      UNION ALL
      SELECT marks.workspace_id, days.day, marks.source, days.slots, days.first_used_at, days.last_used_at
      FROM (${marksOf(schema)}) marks
      CROSS JOIN LATERAL (
        SELECT least(
            coalesce(marks.used_from, marks.period_end - ${sql.id(schema, 'usage_period')}()),
            statement_timestamp()
          ) AS used_from, least(marks.period_end, statement_timestamp()) AS used_until
      ) mark
      CROSS JOIN LATERAL ${usedDays(sql`mark.used_from`, sql`mark.used_until`)} days
      WHERE marks.period_end > '1970-01-02 00:00:00Z'::timestamptz AND marks.period_end < 'infinity'::timestamptz
    ) used
    GROUP BY workspace_id, source, day`
}

async function hasCreatedAt(db: Kysely<never>): Promise<boolean> {
  const { rows } = await sql`
    SELECT FROM pg_catalog.pg_attribute
    WHERE attrelid = 'workspaces'::regclass AND attname = 'created_at' AND NOT attisdropped
      AND atttypid = 'timestamptz'::regtype
  `.execute(db)
  return rows.length > 0
}
