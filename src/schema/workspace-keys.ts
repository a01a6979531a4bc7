import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { addWorkspaceForeignKey } from './workspace-foreign-key.ts'
import { workspacesTable } from './workspaces-table.ts'

/**
 * Makes the foreign keys of our tables lead to the table below the view, if there is a view. After it has been changed,
 * they lead elsewhere. One that could not be created is tried again.
 */
export async function renewForeignKeys(transaction: Connection, schema: string): Promise<void> {
  const table = await workspacesTable(transaction)
  if (table === null || table.views.length === 0) return
  const { rows } = await execute(
    transaction,
    compile(sql<{ name: string; constraint: string | null; right: boolean }>`
      SELECT c.relname::text AS name, k.conname::text AS constraint, k.confrelid IS NOT DISTINCT FROM ${table.oid}::oid AS right
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = ${schema}
      LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f' AND k.conparentid = 0
      WHERE c.oid = to_regclass('workspace_usage')
        OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass('workspace_usage'))
      ORDER BY 1`),
  )
  const wrong = rows.filter(({ right }) => !right)
  if (wrong.length === 0) return
  await execute(transaction, { sql: "SET LOCAL lock_timeout = '5s'", parameters: [] })
  for (const { name, constraint } of wrong) {
    if (constraint !== null) {
      await execute(
        transaction,
        compile(sql`ALTER TABLE ${sql.id(schema, name)} DROP CONSTRAINT ${sql.id(constraint)}`),
      )
    }
    await addWorkspaceForeignKey(transaction, name)
  }
}
