import type { ConnectionPool, PooledClient } from '../database/pool.ts'
import { JobTransaction, type TransactionReports } from './job-transaction.ts'

/** Runs pg-boss's statements on a pool. It never ends the pool, which may be the host's own. */
export class JobDatabase {
  readonly #pool: ConnectionPool
  readonly #reports: TransactionReports
  readonly #schema: string | undefined
  #sessionStatements = ''
  #prepared = new WeakSet<PooledClient>()

  /**
   * @param reports Receives the end of each transaction, also of one that could not begin.
   * @param schema The schema of the tables of a flush. Default: `search_path` leads to them.
   */
  constructor(pool: ConnectionPool, reports: TransactionReports, schema?: string) {
    this.#pool = pool
    this.#reports = reports
    this.#schema = schema
  }

  async executeSql(text: string, values?: unknown[]): Promise<{ rows: unknown[] }> {
    if (this.#sessionStatements === '') return await this.#pool.query(text, values)
    const client = await this.#connect()
    try {
      return await client.query(text, values)
    } finally {
      client.release()
    }
  }

  /** Opens the transaction of a job. pg-boss hands its `db` to the job's handler. */
  async beginTransaction() {
    try {
      const transaction = await JobTransaction.begin(await this.#connect(), this.#reports, this.#schema)
      return {
        db: transaction,
        commit: () => transaction.commit(),
        rollback: () => transaction.rollback(),
      }
    } catch (error) {
      this.#reports.failed(error, null)
      throw error
    }
  }

  /**
   * Sets the statements that must run in each session before any statement of pg-boss. Only its TestClock needs this.
   * The pool may already have open connections, so each one is prepared when it is taken.
   */
  async setSessionStatements(statements: string[]): Promise<void> {
    this.#sessionStatements = statements.join('; ')
    this.#prepared = new WeakSet()
  }

  async #connect(): Promise<PooledClient> {
    const client = await this.#pool.connect()
    if (this.#sessionStatements === '' || this.#prepared.has(client)) return client
    // A pool does not listen to a client that is in use. A statement that runs then rejects, so the error is not lost.
    client.on('error', () => {})
    try {
      await client.query(this.#sessionStatements)
    } catch (error) {
      client.release(error as Error)
      throw error
    }
    this.#prepared.add(client)
    return client
  }
}
