import { sqlState } from '../database/sql-state.ts'

/** Each failure means that another mark was stored meanwhile. So there is no end to them only if nobody rests. */
const MOST_ATTEMPTS = 10

/**
 * Runs a statement that stores marks, again if PostgreSQL could not serialize it.
 *
 * If the default isolation of a host is repeatable read or serializable, a mark fails whenever another connection has
 * just stored the same one. The mark is stored then, and the second attempt sees it. Only for a statement that is a
 * transaction of its own.
 */
export async function retrySerialization<Result>(run: () => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await run()
    } catch (error) {
      if (attempt === MOST_ATTEMPTS || sqlState(error) !== '40001') throw error
    }
  }
}
