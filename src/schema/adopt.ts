import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { sqlState } from '../database/sql-state.ts'
import { InvalidOptionError, WorkspacesTableError } from '../errors.ts'
import { type OptionRules, whatever } from '../options.ts'
import { assertCondition, createView, isSameView, type ViewOfTable } from './adopted-view.ts'
import { assertColumn, findHostTable, type HostTable } from './host-table.ts'
import { assertSameIdType } from './id-type.ts'
import { A_COLUMN, A_TABLE, columnName } from './identifiers.ts'
import { type PresentWorkspaces, replaceWorkspaces } from './replace-workspaces.ts'
import { VIEW_COMMENT } from './workspaces-table.ts'

/** Options of `migrate` that name the host's table. */
export interface AdoptionOptions {
  /**
   * The host's table, if it is not called `workspaces`: its name as it is written in the database, such as
   * `app.sandboxes`. The first dot ends the schema. Upper case stays without quotes. A part with dots or quotes stands in
   * double quotes. `migrate` creates an updatable view `workspaces` of it, and never alters the table. Default: the view
   * or table `workspaces` that is there.
   */
  table?: string
  /** The column of the id: uuid, bigint, integer, text or varchar, unique by itself. Default: `id`. */
  idColumn?: string
  /** The column that the flush writes, a timestamptz. Default: `last_used_at`. */
  lastUsedColumn?: string
  /** The column that tells when a workspace was created, a timestamptz. Default: there is none. */
  createdColumn?: string
  /**
   * An SQL condition on the table, such as `deleted_at IS NULL`. Rows that do not satisfy it are no workspaces: marks of
   * them are unknown. Default: all rows are.
   */
  where?: string
}

/** What these options may be. */
export const ADOPTION_OPTIONS: OptionRules<AdoptionOptions> = {
  table: A_TABLE,
  idColumn: A_COLUMN,
  lastUsedColumn: A_COLUMN,
  createdColumn: A_COLUMN,
  where: whatever(
    'an SQL condition, such as deleted_at IS NULL',
    value => typeof value === 'string' && value.trim() !== '',
  ),
}

/** What became of the view. */
export type Adoption =
  /** There was no `workspaces`. */
  | 'created'
  /** It showed something else. */
  | 'changed'
  /** The empty table of this package stood there. */
  | 'replaced'
  /** It is as it was. */
  | 'kept'

/** @throws {InvalidOptionError} If there are columns or a condition of no table. */
export function assertTableNamed(options: AdoptionOptions): void {
  if (options.table !== undefined) return
  for (const option of ['idColumn', 'lastUsedColumn', 'createdColumn', 'where'] as const) {
    if (options[option] !== undefined) {
      throw new InvalidOptionError(option, options[option], 'only together with the option table')
    }
  }
}

/**
 * Makes `workspaces` a view of the table, as part of the transaction.
 *
 * @throws {WorkspacesTableError} If there is no such table or column, or PostgreSQL refuses the condition, or something
 *   stands in the way.
 */
export async function adoptTable(
  transaction: Connection,
  schema: string,
  options: AdoptionOptions & { table: string },
): Promise<Adoption> {
  const present = await presentWorkspaces(transaction, schema)
  const ours = present?.kind === 'v' && present.comment === VIEW_COMMENT
  const table = await findHostTable(transaction, options.table, ours ? present.oid : null)
  const view = viewOf(table, options)
  if (present?.oid === table.oid) return isItself(view, schema)
  await assertCondition(transaction, view)
  if (present !== null) await assertSameIdType(transaction, view)
  if (present === null) {
    await createView(transaction, schema, view)
    await assertFound(transaction, schema, table)
    return 'created'
  }
  if (ours) return await changeView(transaction, schema, present, view)
  await assertReplaceable(transaction, schema, present, table)
  await replaceWorkspaces(transaction, schema, present, () => createView(transaction, schema, view))
  return 'replaced'
}

function viewOf(table: HostTable, options: AdoptionOptions): ViewOfTable {
  const id = columnName(options.idColumn ?? 'id')
  const lastUsed = columnName(options.lastUsedColumn ?? 'last_used_at')
  const created = options.createdColumn === undefined ? null : columnName(options.createdColumn)
  for (const column of [id, lastUsed, ...(created === null ? [] : [created])]) assertColumn(table, column)
  // A view would only say so with the cast that nobody has asked for.
  if (created !== null && table.columns.get(created) !== 'timestamp with time zone') {
    const found = `has type ${table.columns.get(created)}`
    throw new WorkspacesTableError(created, found, 'type timestamptz', table.text)
  }
  return { table, id, lastUsed, created, hasCreated: created !== null, where: options.where ?? null }
}

/** The table has the name and the place of the view. That is well if it would look the same. */
function isItself({ table, id, lastUsed, created, where }: ViewOfTable, schema: string): 'kept' {
  if (
    id === 'id' &&
    lastUsed === 'last_used_at' &&
    [null, 'created_at'].includes(created) &&
    where === null
  ) {
    return 'kept'
  }
  throw new WorkspacesTableError(
    null,
    `has the name that its view would have, in the schema ${schema}`,
    'its columns id, last_used_at and created_at and no condition, or another schema for workspace-usage (--schema)',
    table.text,
  )
}

/** `workspaces` in our own schema, and in no other. */
async function presentWorkspaces(connection: Connection, schema: string): Promise<PresentWorkspaces | null> {
  const { rows } = await execute(
    connection,
    compile(sql<PresentWorkspaces>`
      SELECT c.oid::text AS oid, c.relkind::text AS kind, obj_description(c.oid, 'pg_class') AS comment
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = ${schema} AND c.relname = 'workspaces'`),
  )
  return rows[0] ?? null
}

async function changeView(
  transaction: Connection,
  schema: string,
  present: PresentWorkspaces,
  view: ViewOfTable,
): Promise<'kept' | 'changed'> {
  const { rows } = await execute(
    transaction,
    compile(sql<{ count: string }>`
      SELECT count(*)::text AS count FROM pg_attribute
      WHERE attrelid = ${present.oid}::oid AND attnum > 0 AND attname = 'created_at'`),
  )
  const wanted = { ...view, hasCreated: view.hasCreated || rows[0]!.count !== '0' }
  // A lock of the view would make flushes wait, so nothing is replaced by the same.
  const same = await withinSavepoint(transaction, () => isSameView(transaction, schema, present.oid, wanted))
  if (same) return 'kept'
  await execute(transaction, { sql: "SET LOCAL lock_timeout = '5s'", parameters: [] })
  const replaced = await withinSavepoint(transaction, async () => {
    await createView(transaction, schema, wanted)
    return true
  })
  // The types differ in a length. The views that read it must be made anew then.
  if (!replaced) {
    await replaceWorkspaces(transaction, schema, present, () => createView(transaction, schema, wanted))
  }
  return 'changed'
}

/** @returns False if PostgreSQL says that a view would change the type of a column. */
async function withinSavepoint(transaction: Connection, run: () => Promise<boolean>): Promise<boolean> {
  await execute(transaction, { sql: 'SAVEPOINT changing_view', parameters: [] })
  try {
    return await run()
  } catch (error) {
    if (sqlState(error) !== '42P16') throw error
    await execute(transaction, { sql: 'ROLLBACK TO SAVEPOINT changing_view', parameters: [] })
    return false
  }
}

/** @throws {WorkspacesTableError} If what is called `workspaces` is not ours, or holds rows. */
async function assertReplaceable(
  transaction: Connection,
  schema: string,
  { comment, kind }: PresentWorkspaces,
  table: HostTable,
): Promise<void> {
  const place = `${schema}.workspaces`
  const refuse = (why: string, remedy: string) =>
    new WorkspacesTableError(null, `needs a view ${place}, and ${why}`, remedy, table.text)
  if (kind !== 'r' || comment !== 'Created by workspace-usage.') {
    const remedy = 'another schema for workspace-usage (--schema), or another name for that one'
    throw refuse('something of yours has this name', remedy)
  }
  await execute(transaction, { sql: "SET LOCAL lock_timeout = '5s'", parameters: [] })
  const workspaces = sql.id(schema, 'workspaces')
  await execute(transaction, compile(sql`LOCK TABLE ${workspaces} IN ACCESS EXCLUSIVE MODE`))
  const { rows } = await execute(transaction, compile(sql`SELECT FROM ${workspaces} LIMIT 1`))
  if (rows.length > 0) {
    const remedy = `an empty one: move its rows to ${table.text}, or name another schema (--schema)`
    throw refuse('the table of this name, which workspace-usage created, holds rows', remedy)
  }
}

/** @throws {WorkspacesTableError} If `search_path` leads to something else of this name. */
async function assertFound(connection: Connection, schema: string, table: HostTable): Promise<void> {
  const { rows } = await execute(
    connection,
    compile(sql<{ other: string | null }>`
      SELECT nullif(to_regclass('workspaces'), to_regclass(format('%I.workspaces', ${schema}::text)))::text AS other`),
  )
  const other = rows[0]!.other
  if (other === null) return
  throw new WorkspacesTableError(
    null,
    `needs a view ${schema}.workspaces, and search_path finds ${other} before it`,
    'a search_path that begins with the schema of workspace-usage, or the option --schema',
    table.text,
  )
}
