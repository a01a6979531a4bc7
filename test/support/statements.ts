import type { Queryable } from '../../src/database/connection.ts'
import type { ConnectionPool, PooledClient } from '../../src/database/pool.ts'

/** A statement of a tracker. Times are milliseconds since 1970, by this process's clock. */
export interface SentStatement {
  ids: string[]
  sentAt: number
  /** Undefined until it has succeeded. */
  answeredAt: number | undefined
  /** For how long, counted from `sentAt`, the tracker may take the ids for stored. */
  remainingMs: number
}

/** A pool that notes each statement of a tracker and passes it on to another pool, errors included. */
export function noteStatements(pool: ConnectionPool): ConnectionPool & { sent: SentStatement[] } {
  const sent: SentStatement[] = []
  const noted = async (connection: Queryable, text: string, values: unknown[] = []) => {
    const ids = values.find(value => Array.isArray(value)) as string[]
    const statement: SentStatement = { ids, sentAt: Date.now(), answeredAt: undefined, remainingMs: 0 }
    sent.push(statement)
    const answer = await connection.query(text, values)
    statement.remainingMs = Number((answer.rows[0] as { remaining_ms: string }).remaining_ms)
    statement.answeredAt = Date.now()
    return answer as { rows: unknown[]; rowCount: number | null }
  }
  return Object.assign(Object.create(pool), {
    sent,
    query: (text: string, values?: unknown[]) => noted(pool, text, values),
    async connect(): Promise<PooledClient> {
      const client = await pool.connect()
      return {
        query: (text, values) => noted(client, text, values),
        on: (event, listener) => client.on(event, listener),
        removeListener: (event, listener) => client.removeListener(event, listener),
        release: error => client.release(error),
      }
    },
  })
}
