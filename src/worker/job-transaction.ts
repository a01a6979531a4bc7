import type { ConnectionPool, PooledClient } from '../database/pool.ts'

/** How long a ROLLBACK may take before its connection is dropped instead, which rolls back as well, in ms. */
const ROLLBACK_TIMEOUT_MS = 5_000

/** How a transaction that pg-boss opened for a flush ended. */
export type TransactionOutcome = { committed: true } | { committed: false; error: unknown }

/**
 * pg-boss's way to the database, over a pool that may be the host's own.
 *
 * pg-boss tells nobody when the transaction of a job has committed, or that a commit failed. This does, so that what
 * is logged as flushed is flushed, and a flush that fails outside its handler is not silent.
 */
export class JobDatabase {
  readonly #pool: ConnectionPool
  readonly #settled: (outcome: TransactionOutcome) => void
  #prepareSession: ((client: PooledClient) => void) | undefined

  /**
   * @param pool Not ended here.
   * @param settled Called once for every transaction, after its end; also if it could not begin.
   */
  constructor(pool: ConnectionPool, settled: (outcome: TransactionOutcome) => void) {
    this.#pool = pool
    this.#settled = settled
  }

  executeSql(text: string, values?: unknown[]): Promise<{ rows: unknown[] }> {
    return this.#pool.query(text, values)
  }

  /** Opens a transaction on a connection of its own, which is released when it ends. */
  async beginTransaction() {
    try {
      return await this.#begin()
    } catch (error) {
      this.#settled({ committed: false, error })
      throw error
    }
  }

  async #begin() {
    const client = await this.#pool.connect()
    let failure: unknown
    let ended = false
    // A pool stops listening for errors of a client it has handed out, and unheard they end the process.
    const onError = (error: Error) => {
      failure ??= error
      end(error)
    }
    const end = (dropped?: Error) => {
      if (ended) return
      ended = true
      client.removeListener('error', onError)
      client.release(dropped)
    }
    const run = async (text: string, values?: unknown[]) => {
      if (ended) throw failure ?? new Error('the transaction of this job has already ended')
      try {
        return await client.query(text, values)
      } catch (error) {
        failure ??= error
        throw error
      }
    }
    client.on('error', onError)
    try {
      await client.query('BEGIN')
    } catch (error) {
      end(error as Error)
      throw error
    }
    return {
      db: { executeSql: run },
      commit: async () => {
        try {
          await run('COMMIT')
        } catch (error) {
          end(error as Error)
          throw error
        }
        end()
        this.#settled({ committed: true })
      },
      rollback: async () => {
        if (!ended) {
          const late = new Error('ROLLBACK did not end in time; its connection was dropped')
          const error = await withinTimeout(client.query('ROLLBACK'), ROLLBACK_TIMEOUT_MS, late)
          end(error)
        }
        const error =
          failure ?? new Error('the job was taken away from this worker before its flush could commit')
        this.#settled({ committed: false, error })
      },
    }
  }

  /** Runs statements on every connection before its first use: pg-boss's TestClock needs it, nothing else does. */
  async setSessionStatements(statements: string[]): Promise<void> {
    if (this.#prepareSession) this.#pool.removeListener('connect', this.#prepareSession)
    this.#prepareSession = client => {
      client.query(statements.join('; ')).catch(() => {})
    }
    if (statements.length > 0) this.#pool.on('connect', this.#prepareSession)
  }

  poolCounts() {
    const { totalCount, idleCount, waitingCount, options } = this.#pool
    return { max: options.max ?? 10, total: totalCount, idle: idleCount, waiting: waitingCount }
  }
}

/** Resolves with the error if the promise rejects, with `late` if it takes too long, else with undefined. */
async function withinTimeout(promise: Promise<unknown>, ms: number, late: Error): Promise<Error | undefined> {
  let timer: NodeJS.Timeout | undefined
  const deadline = new Promise<Error>(resolve => {
    timer = setTimeout(resolve, ms, late)
  })
  try {
    return await Promise.race([
      promise.then(
        () => undefined,
        error => error as Error,
      ),
      deadline,
    ])
  } finally {
    clearTimeout(timer)
  }
}
