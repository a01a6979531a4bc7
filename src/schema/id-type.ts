import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { WorkspacesTableError } from '../errors.ts'
import type { ViewOfTable } from './adopted-view.ts'

/** @throws {WorkspacesTableError} If the ids would get another type than our tables have. */
export async function assertSameIdType(
  connection: Connection,
  { table, id }: Pick<ViewOfTable, 'table' | 'id'>,
): Promise<void> {
  const { rows } = await execute(
    connection,
    compile(sql<{ type: string }>`
      SELECT format_type(atttypid, NULL) AS type FROM pg_attribute
      WHERE attrelid = to_regclass('pending_usage') AND attname = 'workspace_id'`),
  )
  const ours = rows[0]?.type
  const type = table.columns.get(id)!
  if (ours !== undefined && !isSameType(ours, type)) throw anotherType(table.text, id, type, ours)
}

/** `text` and `varchar` compare and fit alike. */
export function isSameType(one: string, other: string): boolean {
  const plain = (type: string) => type.replace(/^character varying(\(\d+\))?$/, 'text')
  return plain(one) === plain(other)
}

/** The error of a table whose ids have another type than ours. */
export function anotherType(
  table: string | null,
  column: string,
  type: string,
  ours: string,
): WorkspacesTableError {
  return new WorkspacesTableError(
    column,
    `has type ${type}, and the tables of workspace-usage hold ids of type ${ours}`,
    `type ${ours}, or a new start (workspace-usage migrate --down --all, which removes pending marks)`,
    table,
  )
}
