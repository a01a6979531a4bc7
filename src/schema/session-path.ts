import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { pathStatements } from '../database/schema-path.ts'
import { VIEW_COMMENT } from './workspaces-table.ts'

/*
 * A migration into a schema that is named sees nothing else. The host's table and what its condition calls are found as
 * the session found them at its start.
 */

/** Runs something that finds what the session's own path leads to, behind our schema. */
export async function withSessionPath<Result>(
  transaction: Connection,
  schema: string,
  run: () => Promise<Result>,
): Promise<Result> {
  await execute(
    transaction,
    compile(sql`
      SELECT pg_catalog.set_config(
        'search_path', pg_catalog.concat_ws(', ', pg_catalog.quote_ident(${schema}::text), NULLIF(reset_val, '')), true
      ) FROM pg_catalog.pg_settings WHERE name = 'search_path'`),
  )
  const result = await run()
  const [alone] = pathStatements(schema, { alone: true })
  await execute(transaction, { sql: alone!, parameters: [] })
  return result
}

/**
 * Finds the host's `workspaces` in another schema of the path, while there is none in ours. What another installation of
 * this package has created is not the host's, unless its tables were moved away from there.
 *
 * @returns The options that adopt it, or null.
 */
export async function workspacesElsewhere(
  transaction: Connection,
  schema: string,
): Promise<{ table: string; createdColumn?: string } | null> {
  const { rows } = await execute(
    transaction,
    compile(sql<{ name: string; created: string }>`
      SELECT pg_catalog.format('%I.workspaces', n.nspname) AS name, (
          SELECT pg_catalog.count(*)::text FROM pg_catalog.pg_attribute a
          WHERE a.attrelid = c.oid AND a.attname = 'created_at' AND a.atttypid = 'pg_catalog.timestamptz'::pg_catalog.regtype
        ) AS created
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid = pg_catalog.to_regclass('workspaces') AND n.nspname <> ${schema} AND c.relpersistence <> 't'
        AND NOT (
          coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '') IN (${VIEW_COMMENT}, 'Created by workspace-usage.')
          AND EXISTS (
            SELECT FROM pg_catalog.pg_class o WHERE o.relnamespace = c.relnamespace AND o.relname = 'pending_usage'
          )
        )`),
  )
  const [found] = rows
  if (!found) return null
  return { table: found.name, ...(found.created === '1' && { createdColumn: 'created_at' }) }
}
