import type { Connection, Queryable } from '../database/connection.ts'
import { answerWithin, connectWithin, destroyConnection, isPool } from '../database/deadline.ts'
import type { ConnectionPool } from '../database/pool.ts'
import { beginIn, placeOf } from '../database/schema-path.ts'

/** The longest wait for a client, and for one answer, in milliseconds. */
const WITHIN_MS = 20_000

/** One message, so that a pooler keeps all of it on one connection. A lock of a migration is not waited for long. */
const BEGIN = `BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '15s'`

/**
 * Makes a connection on which a statement can change nothing. On a pool, each statement is a read-only transaction of its
 * own. What one statement fails with does not reach the next. Another connection is returned as it is, because its
 * transaction is the caller's.
 */
export function readOnly(connection: Connection): Connection {
  return isPool(connection) ? new ReadOnlyPool(connection, placeOf(connection).schema) : connection
}

class ReadOnlyPool implements Queryable {
  readonly #pool: ConnectionPool
  readonly #begin: string

  constructor(pool: ConnectionPool, schema: string | undefined) {
    this.#pool = pool
    // The doctor says itself what is missing there. It must not look at other tables of the same names instead.
    this.#begin = beginIn(BEGIN, schema, { alone: true })
  }

  async query(text: string, values?: unknown[]): Promise<{ rows: unknown[]; rowCount: number | null }> {
    const client = await connectWithin(this.#pool, WITHIN_MS)
    const send = (sql: string, parameters?: unknown[]) =>
      answerWithin(
        WITHIN_MS,
        () => client.query(sql, parameters),
        () => destroyConnection(client),
      )
    let failure: Error | undefined
    try {
      await send(this.#begin)
      const result = await send(text, values)
      await send('COMMIT')
      return result
    } catch (error) {
      failure = error as Error
      throw error
    } finally {
      // After an error the connection is closed. That rolls back.
      client.release(failure)
    }
  }
}
