import type { PooledClient } from '../database/pool.ts'
import type { FinishedFlush } from './flush-log.ts'

/** How long a ROLLBACK may take, in ms. After that its connection is dropped, which rolls back as well. */
const ROLLBACK_TIMEOUT_MS = 5_000

/** Told once of each transaction, after its end. */
export interface TransactionReports {
  /** The flush, and the completion of its job, have committed. */
  committed(flush: FinishedFlush): void
  /** Nothing of the transaction has committed. */
  failed(error: unknown): void
}

/**
 * The transaction of one job, on a connection of its own. pg-boss opens it, hands it to the handler as its `db`, then
 * completes the job in it, and commits it or rolls it back.
 *
 * The handler says what it did. It can't know whether that will commit, and pg-boss tells nobody. So the report is made
 * here, at the end: what is told as flushed is flushed, and a flush that fails after its handler is not silent.
 */
export class JobTransaction {
  readonly #client: PooledClient
  readonly #reports: TransactionReports
  /** A pool does not listen for the errors of a client in use. Unheard, they would end the process. */
  readonly #onError = (error: Error) => this.#break(error)
  #flush: FinishedFlush | undefined
  /** What the handler threw, or else the first error of a statement or of the connection. */
  #error: unknown
  #released = false
  #reported = false

  private constructor(client: PooledClient, reports: TransactionReports) {
    this.#client = client
    this.#reports = reports
    client.on('error', this.#onError)
  }

  /** Begins a transaction. From here on it has the client, and releases it at its end. */
  static async begin(client: PooledClient, reports: TransactionReports): Promise<JobTransaction> {
    const transaction = new JobTransaction(client, reports)
    try {
      await client.query('BEGIN')
    } catch (error) {
      transaction.#release(error as Error)
      throw error
    }
    return transaction
  }

  /** The transaction behind the `db` that pg-boss hands to a handler: they are one object. */
  static of(db: object): JobTransaction {
    if (db instanceof JobTransaction) return db
    throw new TypeError('this db is no transaction of a job: pg-boss was given another database')
  }

  /** Runs a statement of pg-boss. */
  async executeSql(text: string, values?: unknown[]): Promise<{ rows: unknown[] }> {
    return await this.query(text, values)
  }

  /** Runs a statement of ours. */
  async query(text: string, values?: unknown[]): Promise<{ rows: unknown[]; rowCount: number | null }> {
    // A handler that pg-boss no longer waits for may still be running. The client may be another's by now.
    if (this.#released) throw this.#error ?? new Error('the transaction of this job has already ended')
    try {
      return await this.#client.query(text, values)
    } catch (error) {
      this.#error ??= error
      throw error
    }
  }

  /** The handler has flushed. Reported if the transaction commits. */
  succeeded(flush: FinishedFlush): void {
    this.#flush = flush
  }

  /** The handler has thrown. Reported when the transaction is rolled back. */
  failed(error: unknown): void {
    this.#error = error
  }

  /** @throws The database's error if it can't be committed. pg-boss rolls back then. */
  async commit(): Promise<void> {
    try {
      await this.query('COMMIT')
    } catch (error) {
      this.#release(error as Error)
      throw error
    }
    this.#release()
    this.#report(reports => {
      if (this.#flush) reports.committed(this.#flush)
    })
  }

  /** Never rejects, ends in bounded time, and may be called again. */
  async rollback(): Promise<void> {
    if (!this.#released) this.#release(await this.#tryRollback())
    const error =
      this.#error ?? new Error('the job was taken away from this worker before its flush could commit')
    this.#report(reports => reports.failed(error))
  }

  #break(error: Error): void {
    this.#error ??= error
    this.#release(error)
  }

  /** @param broken Why the connection is of no more use. The pool drops it then. */
  #release(broken?: Error): void {
    if (this.#released) return
    this.#released = true
    this.#client.removeListener('error', this.#onError)
    this.#client.release(broken)
  }

  #report(tell: (reports: TransactionReports) => void): void {
    if (this.#reported) return
    this.#reported = true
    tell(this.#reports)
  }

  /** @returns Why it did not succeed, if it did not. */
  async #tryRollback(): Promise<Error | undefined> {
    const { promise: deadline, resolve } = Promise.withResolvers<Error>()
    const late = new Error('ROLLBACK did not end in time; its connection was dropped')
    const timer = setTimeout(resolve, ROLLBACK_TIMEOUT_MS, late)
    const ended = this.#client.query('ROLLBACK').then(
      () => undefined,
      (error: Error) => error,
    )
    return await Promise.race([ended, deadline]).finally(() => clearTimeout(timer))
  }
}
