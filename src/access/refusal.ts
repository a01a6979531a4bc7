import { type RawBuilder, sql } from 'kysely'
import { compiler } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { sqlState } from '../database/sql-state.ts'
import { InsufficientPrivilegeError } from '../errors.ts'
import { JOB_SCHEMA } from './layout.ts'

/** What a role is there for, as in `workspace-usage grant --worker`. */
export type Duty = 'marker' | 'worker' | 'reader'

/**
 * Says what to grant, if PostgreSQL refused a statement for want of a privilege: what `grant` gives, or where
 * a trigger of the host's writes something else as the worker's role, a GRANT of that. Any other error is
 * returned as it is, and so is this one if it can't be looked into.
 *
 * That it is a privilege that is missing, PostgreSQL says by code; of which table, only by the text, in
 * whatever language. So the text is searched for a table that exists, and its context for the statement.
 * Where that finds nothing, the error still names the role and the command.
 *
 * @param connection Of the same role, and not in the transaction that failed.
 */
export async function explainPrivilegeError(
  connection: Connection,
  error: unknown,
  duty: Duty,
): Promise<unknown> {
  if (!(error instanceof Error) || sqlState(error) !== '42501') return error
  const context = 'where' in error && typeof error.where === 'string' ? error.where : ''
  try {
    const { rows: session } = await execute(connection, sql<{ role: string }>`SELECT current_user AS role`)
    const { role } = session[0]!
    const { rows: named } = await execute(connection, tablesIn(error.message))
    // Without a context it was no trigger.
    const found = lastNamed(
      named.filter(({ own }) => own || context !== ''),
      error.message,
    )
    const table = found?.table ?? null
    if (!found || found.own) {
      const grant = `workspace-usage grant --${duty} ${role}`
      return new InsufficientPrivilegeError({ role, table, columns: [], grant }, error.message, {
        cause: error,
      })
    }
    const columns = assignedColumns(found.columns, context)
    const grant = grantOf(found, columns, context, role)
    const reason =
      `${error.message}${columns.length > 0 ? ` (column ${columns.join(', ')})` : ''}. ` +
      `A trigger of yours wrote there as this role, which is more than a ${duty} needs itself; ` +
      'its function could be SECURITY DEFINER as well'
    return new InsufficientPrivilegeError({ role, table, columns, grant }, reason, { cause: error })
  } catch {
    return error
  }
}

interface NamedTable {
  name: string
  /** With its schema, quoted where it has to be. */
  table: string
  schema: string
  /** Whether what is missing is what `grant` gives. */
  own: boolean
  /** Columns that the role may not update. */
  columns: string[]
}

function tablesIn(message: string): RawBuilder<NamedTable> {
  return sql<NamedTable>`
    SELECT c.relname AS name, n.nspname AS schema, format('%I.%I', n.nspname, c.relname) AS "table",
      CASE WHEN c.oid = to_regclass('workspaces') THEN NOT (
          has_column_privilege(c.oid, 'id', 'SELECT')
          AND has_column_privilege(c.oid, 'last_used_at', 'SELECT')
          AND has_column_privilege(c.oid, 'last_used_at', 'UPDATE')
        )
        ELSE n.nspname = ${JOB_SCHEMA} OR c.oid IN (
          to_regclass('pending_usage'), to_regclass('pending_usage_witness'), to_regclass('workspace_usage'),
          to_regclass('workspace_activity'), to_regclass('workspace_activity_by_source')
        )
      END AS own,
      ARRAY (
        SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          AND NOT has_column_privilege(c.oid, a.attnum, 'UPDATE')
        ORDER BY a.attnum
      ) AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE strpos(${message}, c.relname) > 0 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND n.nspname NOT LIKE ${'pg\\_%'} AND n.nspname <> 'information_schema'
    ORDER BY pg_table_is_visible(c.oid) DESC`
}

/**
 * The table whose name comes last: the text ends in what was refused, and a table may be called "permission".
 */
function lastNamed(tables: readonly NamedTable[], message: string): NamedTable | undefined {
  const words = message.split(NO_WORD)
  const named = tables.filter(({ name }) => words.includes(name))
  return named.toSorted((a, b) => words.lastIndexOf(b.name) - words.lastIndexOf(a.name))[0]
}

/** Those of the columns that the statement in the context assigns. */
function assignedColumns(columns: readonly string[], context: string): string[] {
  const assignments = /\bset\b(.*?)(?:\bwhere\b|\bfrom\b|\breturning\b|$)/is.exec(context)?.[1] ?? ''
  const assigned = [...assignments.matchAll(/([\p{L}\p{N}_$]+)"?\s*=/gu)].map(([, name]) => name!)
  return columns.filter(column => assigned.some(name => name === column || name.toLowerCase() === column))
}

function grantOf(table: NamedTable, columns: readonly string[], context: string, role: string): string {
  const what = whatTo(columns, context)
  const statement = sql`GRANT ${what} ON ${sql.id(table.schema, table.name)} TO ${sql.id(role)};`
  return statement.compile(compiler).sql
}

function whatTo(columns: readonly string[], context: string): RawBuilder<unknown> {
  if (columns.length > 0) return sql`UPDATE (${sql.join(columns.map(column => sql.id(column)))})`
  switch (/\b(?:insert|update|delete)\b/i.exec(context)?.[0].toLowerCase()) {
    case 'insert':
      return sql`INSERT`
    case 'delete':
      return sql`SELECT, DELETE`
    case 'update':
      // What it assigns it may update, so it reads something that it may not.
      return sql`SELECT`
    default:
      return sql`SELECT, INSERT, UPDATE`
  }
}

const NO_WORD = /[^\p{L}\p{N}_$]+/u
