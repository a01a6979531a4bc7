import type { WorkspaceIdType } from '../workspace-id.ts'
import { markedId } from './id-type.ts'

/** What the rows of one INSERT have in common. */
interface RowOptions {
  source: string | undefined
  idType: WorkspaceIdType
  /** Whether to list the values. */
  listed: boolean
}

/**
 * The rows of an INSERT of marks, sorted, so that concurrent ones can't deadlock: out of an array, or as a list of
 * values. On a Citus cluster a list takes a tenth of the time, or two thirds if it is long. On a single server it takes
 * longer than an array, and each length of it is another statement to whoever keeps statistics.
 *
 * @param table The table, as SQL. The first id of a list tells whether all are of the type.
 * @param clock SQL of what is read before the rows come out of an array.
 */
export function markedRows(
  ids: readonly string[],
  { source, idType, listed }: RowOptions,
  table: string,
  clock = '',
): { sql: string; parameters: unknown[] } {
  const last = source === undefined ? [] : [source]
  if (!listed) {
    const columns = source === undefined ? '' : ', $2::text'
    return {
      sql: `SELECT ${markedId(table)} AS id${columns}
          FROM ${clock}unnest($1::${idType}[]) AS marked (id) ORDER BY id`,
      parameters: [ids, ...last],
    }
  }
  const rest = source === undefined ? '' : `, $${ids.length + 1}::text`
  const rows = ids.map((_, index) =>
    index === 0 ? `(${markedId(table, `$1::${idType}`)}${rest})` : `($${index + 1}${rest})`,
  )
  return { sql: `VALUES ${rows.join(', ')}`, parameters: [...ids.toSorted(), ...last] }
}
