import { sqlState } from '../database/sql-state.ts'

/** Each failure means that another mark was stored meanwhile. So there is no end to them only if nobody rests. */
const MOST_ATTEMPTS = 10

/** The SQLSTATEs of what another mark can do to a statement: serialization_failure and, on a Citus cluster, deadlock_detected. */
const MET_ANOTHER = ['40001', '40P01']

/**
 * Runs a statement that stores marks, again if PostgreSQL could not serialize it.
 *
 * If the default isolation of a host is repeatable read or serializable, a mark fails whenever another connection has
 * just stored the same one. The mark is stored then, and the second attempt sees it. On a Citus cluster, two batches that
 * are stored over different nodes reach the shards in different orders. Only for a statement that is a transaction of its
 * own.
 */
export async function retrySerialization<Result>(run: () => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await run()
    } catch (error) {
      if (attempt === MOST_ATTEMPTS || !MET_ANOTHER.includes(sqlState(error) ?? '')) throw error
    }
  }
}
