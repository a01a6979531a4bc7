import { type Allowed, whatever } from '../options.ts'

/** A table as an operator names it. */
export interface TableName {
  /** Null if `search_path` finds it. */
  schema: string | null
  name: string
}

const QUOTED = '"((?:[^"\\0]|"")+)"'
const TABLE = new RegExp(`^(?:(?:${QUOTED}|([^".\\0]+))\\.)?(?:${QUOTED}|([^".\\0](?:[^"\\0]*[^".\\0])?))$`)
const COLUMN = new RegExp(`^(?:${QUOTED}|([^"\\0]+))$`)

/** What a table may be called. */
export const A_TABLE: Allowed = whatever(
  'a table as it is written in the database, with or without its schema, such as app.sandboxes or app."My table"',
  value => typeof value === 'string' && TABLE.test(value),
)

/** What a column may be called. */
export const A_COLUMN: Allowed = whatever(
  'a column as it is written in the database, such as lastActivityAt',
  value => typeof value === 'string' && COLUMN.test(value),
)

/**
 * Reads the name of a table. The first dot outside quotes ends the schema. Upper case stays, also without quotes,
 * because the name is no SQL.
 *
 * @param text As {@link A_TABLE} allows.
 */
export function tableName(text: string): TableName {
  const [, quotedSchema, schema, quotedName, name] = TABLE.exec(text) ?? []
  return { schema: unquoted(quotedSchema) ?? schema ?? null, name: unquoted(quotedName) ?? name ?? '' }
}

/**
 * Reads the name of a column, with or without quotes.
 *
 * @param text As {@link A_COLUMN} allows.
 */
export function columnName(text: string): string {
  const [, quoted, plain] = COLUMN.exec(text) ?? []
  return unquoted(quoted) ?? plain ?? ''
}

function unquoted(text: string | undefined): string | undefined {
  return text?.replaceAll('""', '"')
}
