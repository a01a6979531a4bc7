import type { Queryable } from './connection.ts'
import { connectWithin, destroyConnection } from './deadline.ts'
import { useOwnSettings } from './own-settings.ts'
import type { ConnectionPool, PooledClient } from './pool.ts'
import { beginIn } from './schema-path.ts'
import { BEGIN } from './within-path.ts'

const CONNECT_TIMEOUT_MS = 10_000

/** A statement that PostgreSQL refuses inside a transaction. Scripts of pg-boss that only contain one start with BEGIN. */
const CONCURRENTLY = /^\s*(CREATE(\s+UNIQUE)?|DROP|RE)\s*INDEX\s+CONCURRENTLY\b/i

/**
 * Runs statements of a change of the schema, ours and pg-boss's. Each one is a transaction of its own, which the host's
 * settings don't reach, such as a timeout on the database.
 */
export class SettledPool implements Queryable {
  readonly #pool: ConnectionPool
  readonly #inUse = new Set<PooledClient>()
  readonly #begin: string
  #isAborted = false

  /** @param schema The only schema in which its statements find and create objects. Default: those of `search_path`. */
  constructor(pool: ConnectionPool, schema?: string) {
    this.#pool = pool
    this.#begin = beginIn(BEGIN, schema, { alone: true })
  }

  /** Whether {@link abort} was called. */
  get isAborted(): boolean {
    return this.#isAborted
  }

  /** For pg-boss. */
  async executeSql(text: string, values?: unknown[]): Promise<{ rows: unknown[] }> {
    return await this.query(text, values)
  }

  async query(text: string, values?: unknown[]): Promise<{ rows: unknown[]; rowCount: number | null }> {
    const client = await connectWithin(this.#pool, CONNECT_TIMEOUT_MS)
    this.#inUse.add(client)
    // pg-boss tries a failed command again, on another connection.
    if (this.#isAborted) destroyConnection(client)
    let failure: Error | undefined
    try {
      if (CONCURRENTLY.test(text)) return await this.#concurrently(client, text)
      await client.query(this.#begin)
      await useOwnSettings(client, { until: 'transaction', lockTimeout: '30s' })
      const result = await client.query(text, values)
      // A script of pg-boss has committed already. Then this only warns.
      await client.query('COMMIT')
      return result
    } catch (error) {
      failure = error as Error
      throw error
    } finally {
      this.#inUse.delete(client)
      // After an error the connection is closed. That rolls back.
      client.release(failure)
    }
  }

  /** Breaks the connections that are in use and all later ones, so that pg-boss can be stopped. */
  abort(): void {
    this.#isAborted = true
    for (const client of this.#inUse) destroyConnection(client)
  }

  /** It waits for a lock as long as it must: for the end of each transaction that is older than the index. */
  async #concurrently(client: PooledClient, text: string) {
    const direct = await isDirect(client)
    // Through a pooler the settings would stay on a connection of others. The host's limits are in force then.
    if (direct) await useOwnSettings(client, { until: 'session', lockTimeout: '0' })
    const result = await client.query(text)
    // The settings end with the session.
    if (direct) destroyConnection(client)
    return result
  }
}

/** Whether PostgreSQL itself is at the other end. A pooler tells its clients another process id. */
export async function isDirect(client: Queryable): Promise<boolean> {
  const { rows } = await client.query('SELECT pg_backend_pid()::text AS pid')
  const { pid } = rows[0] as { pid: string }
  return 'processID' in client && String(client.processID) === pid
}
