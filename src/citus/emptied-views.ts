import { type Kysely, sql } from 'kysely'
import { ACTIVITY_VIEWS } from '../schema/activity-views.ts'

/**
 * Replaces our views by empty ones with the same columns, until they are written in the form of distributed tables. Citus
 * would take the views of a table to all nodes, with all that they read, and some of that is the coordinator's own. What
 * the host has built on them stays, and so do the grants.
 */
export async function emptyViews(db: Kysely<never>, schema: string): Promise<void> {
  const { rows } = await sql<{ emptied: string }>`
    SELECT format('CREATE OR REPLACE VIEW %I.%I AS SELECT %s WHERE false', n.nspname, v.relname, empty.columns) AS emptied
    FROM pg_catalog.pg_class v
    JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace AND n.nspname = ${schema}
    CROSS JOIN LATERAL (
      SELECT string_agg(
        format('NULL::%s AS %I', pg_catalog.format_type(a.atttypid, a.atttypmod), a.attname), ', ' ORDER BY a.attnum
      ) AS columns
      FROM pg_catalog.pg_attribute a WHERE a.attrelid = v.oid AND a.attnum > 0
    ) empty
    WHERE v.relkind = 'v' AND v.relname = ANY (${[...ACTIVITY_VIEWS, 'pending_usage_period']}::text[])
  `.execute(db)
  for (const { emptied } of rows) await sql.raw(emptied).execute(db)
}
