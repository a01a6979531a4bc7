import type { Queryable } from '../../src/database/connection.ts'

/** A statement of a tracker. Times are milliseconds since 1970, by this process's clock. */
export interface SentStatement {
  ids: string[]
  sentAt: number
  /** Undefined until it has succeeded. */
  answeredAt: number | undefined
  /** For how long, counted from `sentAt`, the tracker may take the ids for stored. */
  remainingMs: number
}

/** A connection that notes each statement of a tracker and passes it on to another connection, errors included. */
export function noteStatements(connection: Queryable): Queryable & { sent: SentStatement[] } {
  const sent: SentStatement[] = []
  return Object.assign(Object.create(connection), {
    sent,
    async query(text: string, values: unknown[]) {
      const ids = values.find(value => Array.isArray(value)) as string[]
      const statement: SentStatement = { ids, sentAt: Date.now(), answeredAt: undefined, remainingMs: 0 }
      sent.push(statement)
      const answer = await connection.query(text, values)
      statement.remainingMs = (answer.rows[0] as { remaining_ms: number }).remaining_ms
      statement.answeredAt = Date.now()
      return answer
    },
  })
}
