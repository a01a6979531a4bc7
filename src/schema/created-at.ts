import type { Kysely } from 'kysely'
import { type Connection, execute } from '../database/connection.ts'
import { createActivityViews } from './activity-views.ts'

/**
 * Makes the view of activity show when a workspace was created, once `workspaces` has a column `created_at` of type
 * timestamptz. A table of the host may get it at any time, and an adopted one by an option. The views may also be gone:
 * with a table that was dropped by CASCADE, before another one was adopted.
 */
export async function showCreatedAt(transaction: Connection, schema: string): Promise<void> {
  const { rows } = await execute<{ due: boolean }>(transaction, {
    sql: `SELECT pg_catalog.to_regclass('workspaces') IS NOT NULL
      AND pg_catalog.to_regclass('workspace_activity') IS NULL OR EXISTS (
        SELECT FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = pg_catalog.to_regclass('workspaces') AND a.attname = 'created_at' AND NOT a.attisdropped
          AND a.atttypid = 'pg_catalog.timestamptz'::regtype AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
            WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
              AND r.ev_class = pg_catalog.to_regclass('workspace_activity')
              AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
          )
      ) AS due`,
    parameters: [],
  })
  if (!rows[0]!.due) return
  await execute(transaction, { sql: "SET LOCAL lock_timeout = '5s'", parameters: [] })
  await createActivityViews(transaction as Kysely<never>, schema)
}
