import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { sqlState } from '../database/sql-state.ts'
import { WorkspacesTableError, WorkspaceUsageError } from '../errors.ts'
import type { HostTable } from './host-table.ts'
import { VIEW_COMMENT } from './workspaces-table.ts'

/** What the view `workspaces` shows of a table of the host. */
export interface ViewOfTable {
  table: HostTable
  id: string
  lastUsed: string
  /** Null if the table has none. */
  created: string | null
  /** Whether the view has a column `created_at`, also without one of the table. A view can't lose a column. */
  hasCreated: boolean
  /** An SQL condition on the table. Null if the view shows all rows. */
  where: string | null
}

/**
 * Checks that the condition is one condition and no more. It travels with a parameter, so PostgreSQL takes only one
 * statement. Then it is whole in another statement as well: nothing in it is left open.
 *
 * @throws {WorkspacesTableError} If PostgreSQL refuses it.
 */
export async function assertCondition(transaction: Connection, view: ViewOfTable): Promise<void> {
  const { table, where } = view
  if (where === null) return
  await execute(transaction, plain('SAVEPOINT checking_condition'))
  try {
    await execute(
      transaction,
      compile(sql`
        EXPLAIN SELECT FROM ${sql.id(table.schema, table.name)} WHERE ${parenthesised(where)} AND ${true}::boolean`),
    )
  } catch (error) {
    // Whoever may not read the table is told so later. PostgreSQL has understood the condition before.
    if (sqlState(error) !== '42501') throw explain(error, view)
  }
  await execute(transaction, plain('ROLLBACK TO SAVEPOINT checking_condition'))
}

/**
 * Creates the view, or replaces it. It keeps its owner and privileges then.
 *
 * @param name Another name than `workspaces`, to see what PostgreSQL makes of the view.
 */
export async function createView(
  transaction: Connection,
  schema: string,
  view: ViewOfTable,
  name = 'workspaces',
): Promise<void> {
  const { table, id, lastUsed, created, hasCreated, where } = view
  const createdAt = created === null ? sql`NULL::timestamptz` : sql.id(created)
  const columns = sql`${sql.id(id)} AS id, ${sql.id(lastUsed)} AS last_used_at`
  try {
    await execute(
      transaction,
      compile(sql`
        CREATE OR REPLACE VIEW ${sql.id(schema, name)} AS
        SELECT ${columns}${hasCreated ? sql`, ${createdAt} AS created_at` : sql``}
        FROM ${sql.id(table.schema, table.name)}
        ${where === null ? sql`` : sql`WHERE ${parenthesised(where)}`}`),
    )
  } catch (error) {
    throw explain(error, view)
  }
  await execute(
    transaction,
    compile(sql`COMMENT ON VIEW ${sql.id(schema, name)} IS ${sql.lit(VIEW_COMMENT)}`),
  )
}

/** Whether the view that is there is the one that is wanted. */
export async function isSameView(
  transaction: Connection,
  schema: string,
  oid: string,
  view: ViewOfTable,
): Promise<boolean> {
  const name = 'workspaces_to_compare'
  await execute(transaction, plain('SAVEPOINT comparing_views'))
  await createView(transaction, schema, view, name)
  const { rows } = await execute(
    transaction,
    compile(sql<{ same: boolean }>`
      SELECT pg_get_viewdef(present.oid) = pg_get_viewdef(wanted.oid)
        AND present.reloptions IS NOT DISTINCT FROM wanted.reloptions AS same
      FROM pg_class present, pg_class wanted
      WHERE present.oid = ${oid}::oid AND wanted.oid = to_regclass(format('%I.%I', ${schema}::text, ${name}::text))`),
  )
  await execute(transaction, plain('ROLLBACK TO SAVEPOINT comparing_views'))
  return rows[0]!.same
}

/** On lines of its own, because it may end with a comment. */
function parenthesised(where: string): RawBuilder<unknown> {
  return sql`(\n${sql.raw(where)}\n)`
}

/** Everything that PostgreSQL says of a condition when it reads it, beside what is of the moment. */
function explain(error: unknown, { table, where }: ViewOfTable): unknown {
  const state = sqlState(error) ?? ''
  // 42: syntax and names. 22: a value, such as that of a constant. 0A: what a condition can't have. 08P01: it has
  // parameters. Rights are no matter
  // of the condition, and a name that exists already (42P07, 42710) or another shape of the view (42P16) is not either.
  if (where === null || !/^(42|22|0A|08P01)/.test(state)) return error
  if (['42501', '42P07', '42710', '42P16'].includes(state)) return error
  // It may stand in an error of ours, which says that a missing column were one of ours.
  const raised = (error instanceof WorkspaceUsageError ? error.cause : error) as Error & { hint?: string }
  const message = [raised.message, raised.hint]
    .filter(text => text !== undefined)
    .join('. ')
    .replace(/\s+/g, ' ')
  return new WorkspacesTableError(
    null,
    `can't be chosen from by the condition ${JSON.stringify(where)} (${state}: ${message})`,
    'one condition as after WHERE, with the columns of the table',
    table.text,
  )
}

const plain = (text: string) => ({ sql: text, parameters: [] })
