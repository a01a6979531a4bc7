import { type RawBuilder, sql } from 'kysely'
import type { WorkspaceIdType } from '../workspace-id.ts'

/** How the statements of a flush write ids of one type. */
export interface IdSql {
  /** Whether the type has a fixed length, as all but `text` have. Then an id is its own key. */
  readonly fixed: boolean
  /** A parameter as one id. Null is the place before all ids. */
  one(id: string | null): RawBuilder<unknown>
  /** A parameter, or SQL, as an array of ids. */
  many(ids: unknown): RawBuilder<unknown>
  /** A column of ids of one of our tables, or of the host's, in a list of columns. */
  column(id: RawBuilder<unknown>): RawBuilder<unknown>
  /** The key of an id: what `width_bucket` searches for. */
  key(id: RawBuilder<unknown>): RawBuilder<unknown>
  /** The column of an array of keys beside one of ids. They are one if an id is its own key. */
  readonly keys: RawBuilder<unknown>
  /** An empty array of ids, and one of keys. */
  readonly noIds: RawBuilder<unknown>
  readonly noKeys: RawBuilder<unknown>
}

/** No id comes before this one, not even one that a row can't have. */
const LEAST: Record<WorkspaceIdType, string> = {
  uuid: '00000000-0000-0000-0000-000000000000',
  bigint: '-9223372036854775808',
  integer: '-2147483648',
  text: '',
}

/** An id of a place, as a statement or a note needs it. Null is the place before all ids. */
export function orLeast(id: string | null, type: WorkspaceIdType): string {
  return id ?? LEAST[type]
}

/**
 * The SQL of ids for one statement.
 *
 * In an array of texts PostgreSQL finds an element only by walking over all before it, so searching one array for each
 * element of another takes quadratic time. So a text has a key: its hash, which equal texts share whatever their
 * collation is. The seed is another one for each statement, so nobody can make two ids that always have the same hash.
 * The statement settles nothing if two of its ids do.
 */
export function idSql(type: WorkspaceIdType): IdSql {
  const name = sql.raw(type)
  const fixed = type !== 'text'
  const seed = Math.floor(Math.random() * Number.MAX_SAFE_INTEGER)
  return {
    fixed,
    one: id => sql`${orLeast(id, type)}::${name}`,
    many: ids => sql`${ids}::${name}[]`,
    column: id => (fixed ? id : sql`${id}::text`),
    key: id => (fixed ? id : sql`hashtextextended(${id}, ${seed}::bigint)`),
    keys: fixed ? sql`ids` : sql`keys`,
    noIds: sql`'{}'::${name}[]`,
    noKeys: fixed ? sql`'{}'::${name}[]` : sql`'{}'::bigint[]`,
  }
}
