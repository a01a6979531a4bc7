import { type Kysely, type RawBuilder, sql } from 'kysely'
import type { Connection } from '../database/connection.ts'
import { isDistributed } from '../database/distributed.ts'
import { SLOTS_OF_A_DAY } from '../database/used-days.ts'
import { workspaceIdType } from '../database/workspace-id-type.ts'
import { activity, bySource, daily, finite } from './activity-queries.ts'
import { distributedActivity } from './distributed-activity.ts'
import { createNotedPeriods, dropNotedPeriods } from './marks-of-views.ts'
import { distributedForm, plainForm } from './view-form.ts'

/*
 * The views that show flushed and pending usage in one snapshot. migrations/0003 and 0009 explain why a lookup of one
 * workspace is cheap among millions, whatever the planner believes of pending_usage.
 *
 * They are written here, and not in a migration, because they depend on the host's table as well: it may get a column
 * created_at at any time. Columns are only ever added at the end, so that they can be replaced in place.
 *
 * On a distributed database they have another form: see view-form.ts. It has no check of row security, because that is
 * refused there.
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
  const distributed = await isDistributed(db as unknown as Connection)
  const form = distributed ? distributedForm(schema) : plainForm(schema)
  const whole = { schema, form, shown: id }
  const views: Record<(typeof ACTIVITY_VIEWS)[number], [RawBuilder<unknown>, RawBuilder<unknown>]> = {
    workspace_activity: [
      ACTIVITY_COLUMNS,
      distributed ? distributedActivity(whole, createdAt) : activity(whole, createdAt),
    ],
    workspace_activity_by_source: [BY_SOURCE_COLUMNS, bySource(whole)],
    workspace_usage_daily: [DAILY_COLUMNS, daily(whole)],
  }
  await createNotedPeriods(db, schema)
  for (const view of ACTIVITY_VIEWS) {
    const [columns, query] = views[view]
    const body = distributed ? query : checked(schema, view, columns, query)
    await sql`CREATE OR REPLACE VIEW ${sql.id(schema, view)} AS ${body}`.execute(db)
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

async function hasCreatedAt(db: Kysely<never>): Promise<boolean> {
  const { rows } = await sql`
    SELECT FROM pg_catalog.pg_attribute
    WHERE attrelid = 'workspaces'::regclass AND attname = 'created_at' AND NOT attisdropped
      AND atttypid = 'timestamptz'::regtype
  `.execute(db)
  return rows.length > 0
}
