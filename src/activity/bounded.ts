import type { Connection, Queryable } from '../database/connection.ts'
import { connectWithin, destroyIdle, executeWithin, isPool } from '../database/deadline.ts'
import { placedIn, placeOf } from '../database/schema-path.ts'
import { sqlState } from '../database/sql-state.ts'
import { NoAnswerError } from '../errors.ts'

/**
 * Runs several statements, and waits for all of them together no longer than a time. A pool gives one client for all.
 *
 * @param ms Milliseconds from the start to the last answer.
 * @throws {NoAnswerError} If the time is over.
 * @throws As `execute` for everything else.
 */
export async function boundedBy<T>(
  connection: Connection,
  ms: number,
  use: (bounded: Queryable) => Promise<T>,
): Promise<T> {
  const end = performance.now() + ms
  let isLost = false
  const within = (to: Connection): Queryable => ({
    query: async (sql, parameters = []) => {
      try {
        const left = Math.max(0, end - performance.now())
        const { rows, affected } = await executeWithin(to, { sql, parameters }, left)
        return affected === undefined ? { rows } : { rows, affectedRows: affected }
      } catch (error) {
        // An error without SQLSTATE is one of the connection.
        isLost ||= sqlState(error) === undefined
        // It would name what was left of the time for one of the statements.
        throw error instanceof NoAnswerError ? new NoAnswerError(ms) : error
      }
    },
  })
  if (!isPool(connection)) return await use(within(connection))
  const { schema } = placeOf(connection)
  const client = await connectWithin(connection, ms)
  try {
    return await use(within(schema === undefined ? client : placedIn(client, schema, true)))
  } finally {
    client.release(isLost)
    // The idle clients may be as silent as this one.
    if (isLost) destroyIdle(connection, ms)
  }
}
