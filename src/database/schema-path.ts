import { type Allowed, whatever } from '../options.ts'
import { quoteIdentifier, quoteLiteral } from './quote.ts'

/*
 * A connection "in a schema" is the same connection, with a note of the schema. Whoever runs a statement of ours on it
 * lets a transaction begin with the path below. Nothing is kept in the session: a pooler would lose it, or give it to
 * somebody else.
 */

/** PostgreSQL cuts longer names. */
const LONGEST_NAME = 63

/** The rule of an option that names the schema of this package. */
export const A_SCHEMA: Allowed = whatever(
  'the name of a schema as in pg_namespace: 1 to 63 bytes of text, not beginning with pg_, and not information_schema',
  value =>
    typeof value === 'string' &&
    value !== '' &&
    value.isWellFormed() &&
    Buffer.byteLength(value) <= LONGEST_NAME &&
    !value.includes('\0') &&
    !value.startsWith('pg_') &&
    value !== 'information_schema',
)

/** What a connection is, apart from the schema. */
export interface Place<Plain> {
  /** The connection itself. */
  plain: Plain
  /** The schema that was named for it. Undefined: `search_path` leads to the tables. */
  schema: string | undefined
  /** Whether it is known to be in no transaction: a client that was just taken from a pool. */
  isFresh: boolean
}

const places = new WeakMap<object, Place<object>>()

/** Tells a connection and the schema that was named for it. */
export function placeOf<Plain extends object>(connection: Plain): Place<Plain> {
  return (
    (places.get(connection) as Place<Plain> | undefined) ?? {
      plain: connection,
      schema: undefined,
      isFresh: false,
    }
  )
}

/** The schema that was named for a connection, or for the pool that it stands for. Null if there is none. */
export function schemaOf(connection: object): string | null {
  const { schema } = connection as { schema?: unknown }
  // A Kysely instance has a field of this name, which is no text.
  return placeOf(connection).schema ?? (typeof schema === 'string' ? schema : null)
}

/**
 * The same connection, with a note of the schema. All its methods and fields are those of the connection.
 *
 * @param isFresh Whether it is in no transaction. Default: it is asked.
 */
export function placedIn<Plain extends object>(connection: Plain, schema: string, isFresh = false): Plain {
  const { plain } = placeOf(connection)
  const placed = new Proxy(plain, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      // Private fields are found by the object itself only.
      return typeof value === 'function' ? value.bind(target) : value
    },
    set: (target, name, value) => Reflect.set(target, name, value, target),
  })
  places.set(placed, { plain, schema, isFresh })
  return placed
}

/** Where a path leads beside our schema, and whether our tables must be there. */
export interface PathOptions {
  /**
   * Whether nothing else is found. Default: the path of the session stays behind ours, because triggers of the host's
   * table run in a flush.
   */
  alone?: boolean
}

/**
 * The statements that let a transaction find the tables in a schema. They return no rows, and have no parameters, so that
 * they can be joined to a BEGIN.
 *
 * Without the last one, a schema that lacks the tables, or that the role may not use, would be skipped without an error,
 * and the path of the session might lead to other tables of these names.
 */
export function pathStatements(schema: string, { alone = false }: PathOptions = {}): string[] {
  const ours = quoteLiteral(quoteIdentifier(schema))
  const rest = alone ? 'NULL' : `NULLIF(pg_catalog.current_setting('search_path'), '')`
  const path = `pg_catalog.concat_ws(', ', ${ours}, ${rest})`
  // The condition calls it once, and is never true.
  const set = `SELECT WHERE pg_catalog.set_config('search_path', ${path}, true) IS NULL`
  if (alone) return [set]
  const table = quoteLiteral(qualified(schema, 'pending_usage'))
  return [set, `SELECT WHERE ${table}::pg_catalog.regclass IS NULL`]
}

/** A BEGIN, and the path if a schema is named: one message without parameters, which a pooler keeps together. */
export function beginIn(begin: string, schema: string | undefined, options?: PathOptions): string {
  return schema === undefined ? begin : [begin, ...pathStatements(schema, options)].join('; ')
}

/** The name of an object in a statement: with the schema, if one is named. */
export function qualified(schema: string | undefined, name: string): string {
  return schema === undefined ? name : `${quoteIdentifier(schema)}.${name}`
}
