import type { Queryable } from '../../src/connection.ts'

/** A statement of a tracker: the ids it carried, and how long it took by this process's wall clock. */
export interface SentStatement {
  ids: string[]
  sentAt: number
  /** Undefined until it has succeeded. */
  answeredAt: number | undefined
  /** Undefined unless it has failed. */
  failedAt: number | undefined
}

/** A connection that notes what a tracker sends over it, and sends it on. */
export function noteStatements(connection: Queryable): Queryable & { sent: SentStatement[] } {
  const sent: SentStatement[] = []
  return {
    sent,
    async query(text, values) {
      const ids = values!.find(value => Array.isArray(value)) as string[]
      const statement: SentStatement = { ids, sentAt: Date.now(), answeredAt: undefined, failedAt: undefined }
      sent.push(statement)
      try {
        const answer = await connection.query(text, values)
        statement.answeredAt = Date.now()
        return answer
      } catch (error) {
        statement.failedAt = Date.now()
        throw error
      }
    },
  }
}
