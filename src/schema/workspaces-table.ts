import { type Connection, execute } from '../database/connection.ts'

// This is plain text, because `status` and the checks of `doctor` load no Kysely.

/** A column of the host's table. */
export interface WorkspacesColumn {
  name: string
  /** Its number in `pg_attribute`. */
  number: number
}

/** A view between the name `workspaces` and the host's table. */
export interface WorkspacesView {
  oid: string
  schema: string
  name: string
  owner: string
  /** Whether it reads with the rights of whoever queries it (`security_invoker`), and not with those of its owner. */
  invoker: boolean
  /** The columns of it that lead to those of the table. Null if there is none. */
  columns: Record<ColumnName, number | null>
}

type ColumnName = 'id' | 'last_used_at' | 'created_at'

/** The host's table that `workspaces` stands for. It is `workspaces` itself, or what a view of this name shows. */
export interface WorkspacesTable {
  oid: string
  schema: string
  name: string
  /** Schema and name as SQL writes them. */
  text: string
  /** As PostgreSQL shows it: without the schema, if `search_path` finds it. */
  shown: string
  /** Its `relkind`. `v` if a view shows no single table. */
  kind: string
  /** Null if there is no such column, or if a view computes it. */
  id: WorkspacesColumn | null
  lastUsed: WorkspacesColumn | null
  created: WorkspacesColumn | null
  /** The views from `workspaces` down to the table. Empty if the table has this name itself. */
  views: readonly WorkspacesView[]
  /** Whether `migrate` created the view. */
  adopted: boolean
}

/** The comment by which the view of this package is recognised. A view of the host has another one. */
export const VIEW_COMMENT = 'Created by workspace-usage: the workspaces of the host.'

interface RelationRow {
  oid: string
  schema: string
  name: string
  text: string
  shown: string
  kind: string
  owner: string
  invoker: boolean
  comment: string | null
  /** The columns in JSON: numbers by name. */
  columns: string
  rule: string | null
}

/**
 * Finds the host's table behind the name `workspaces`. It follows views, and reads catalogs only, so every role can ask.
 *
 * @returns Null if `search_path` finds no `workspaces`.
 */
export async function workspacesTable(connection: Connection): Promise<WorkspacesTable | null> {
  const first = await relation(connection, "pg_catalog.to_regclass('workspaces')", [])
  if (first === undefined) return null
  const views: WorkspacesView[] = []
  const named = new Map(Object.entries(JSON.parse(first.columns) as Record<string, number>))
  let columns = numbers(name => named.get(name) ?? null)
  let found = first
  while (found.kind === 'v') {
    const { oid, schema, name, owner, invoker } = found
    views.push({ oid, schema, name, owner, invoker, columns })
    const origins = originsOf(found.rule ?? '')
    const below = columns.last_used_at === null ? undefined : origins.get(columns.last_used_at)
    const next = below && (await relation(connection, '$1::oid', [below.relation]))
    if (!next) break
    columns = numbers(column => {
      const origin = columns[column] === null ? undefined : origins.get(columns[column])
      return origin?.relation === next.oid ? origin.column : null
    })
    found = next
  }
  return describe(found, columns, views, first.comment === VIEW_COMMENT && first.kind === 'v')
}

function describe(
  found: RelationRow,
  columns: Record<ColumnName, number | null>,
  views: WorkspacesView[],
  adopted: boolean,
): WorkspacesTable {
  const byNumber = Object.entries(JSON.parse(found.columns) as Record<string, number>)
  const column = (number: number | null): WorkspacesColumn | null => {
    const entry = byNumber.find(([, other]) => other === number)
    return entry ? { name: entry[0], number: entry[1] } : null
  }
  const { oid, schema, name, text, shown, kind } = found
  const [id, lastUsed, created] = [columns.id, columns.last_used_at, columns.created_at].map(column)
  return {
    oid,
    schema,
    name,
    text,
    shown,
    kind,
    id: id ?? null,
    lastUsed: lastUsed ?? null,
    created: created ?? null,
    views,
    adopted,
  }
}

function numbers(numberOf: (name: ColumnName) => number | null): Record<ColumnName, number | null> {
  return {
    id: numberOf('id'),
    last_used_at: numberOf('last_used_at'),
    created_at: numberOf('created_at'),
  }
}

async function relation(
  connection: Connection,
  oid: string,
  parameters: readonly unknown[],
): Promise<RelationRow | undefined> {
  const { rows } = await execute<RelationRow>(connection, {
    sql: `SELECT c.oid::text AS oid, n.nspname::text AS schema, c.relname::text AS name,
        pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS text,
        c.oid::regclass::text AS shown,
        c.relkind::text AS kind, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
        coalesce(c.reloptions::text, '') ~ 'security_invoker=(true|on|yes|1)' AS invoker,
        pg_catalog.obj_description(c.oid, 'pg_class') AS comment,
        (
          SELECT coalesce(json_object_agg(a.attname, a.attnum), '{}')::text FROM pg_catalog.pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ) AS columns,
        (
          SELECT r.ev_action::text FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND c.relkind = 'v'
            AND r.rulename = '_RETURN'
        ) AS rule
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid = ${oid}`,
    parameters,
  })
  return rows[0]
}

interface Origin {
  relation: string
  column: number
}

const TARGET =
  /:resno (\d+) :resname \S+ :ressortgroupref \d+ :resorigtbl (\d+) :resorigcol (\d+) :resjunk \w+$/

/**
 * Which column of which relation each column of a view is, by its number. A computed column is left out. PostgreSQL
 * notes this in the rule of the view, and no catalog has it in another form. Subqueries have targets of their own, so
 * only those of the outermost query count.
 */
export function originsOf(rule: string): Map<number, Origin> {
  const origins = new Map<number, Origin>()
  let depth = 0
  let begin = 0
  let inTargets = false
  for (let at = 0; at < rule.length; at++) {
    const character = rule[at]
    // A backslash stands before each brace of a name.
    if (character === '\\') at++
    else if (character === '{') {
      depth++
      if (depth === 2) begin = at
    } else if (character === '}') {
      if (depth === 2 && inTargets) {
        const [, number, relation, column] = TARGET.exec(rule.slice(begin, at)) ?? []
        if (number && relation !== '0')
          origins.set(Number(number), { relation: relation!, column: Number(column) })
      }
      depth--
    } else if (depth === 1 && character === ':') inTargets = rule.startsWith(':targetList (', at)
  }
  return origins
}
