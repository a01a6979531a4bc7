import type { Connection } from '../database/connection.ts'
import { isPool } from '../database/deadline.ts'
import { placeOf } from '../database/schema-path.ts'

/** More do not help: PostgreSQL or this process is busy all the time then. */
const MOST = 2

/**
 * How many statements of a tracker may be under way at once. Only a pool has several connections. On any other
 * connection a second statement would wait for the first one, and its deadline would run meanwhile.
 */
export function mostUnderWay(db: Connection): number {
  const { plain } = placeOf(db)
  if (!isPool(plain)) return 1
  const { max } = (plain as { options?: { max?: unknown } }).options ?? {}
  // A host may pass on the text of a variable, as node-postgres accepts it.
  return Number(max) >= 1 ? Math.min(MOST, Number(max)) : MOST
}
