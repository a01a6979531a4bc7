import type { PooledClient } from '../database/pool.ts'
import { beginIn } from '../database/schema-path.ts'
import { BEGIN } from '../database/within-path.ts'
import type { FlushAttempt } from './flush-attempt.ts'
import type { FinishedFlush } from './flush-log.ts'

/** The longest time for a ROLLBACK, in ms. After that the connection is dropped, and that rolls back as well. */
const ROLLBACK_TIMEOUT_MS = 5_000

/** The transaction goes on after this, so the error before it is over. */
const BACK = /^ROLLBACK TO /

/** Called once for each transaction, after its end. */
export interface TransactionReports {
  /** The flush and the completion of its job have committed. */
  committed(flush: FinishedFlush, attempt: FlushAttempt): void
  /** Nothing of the transaction has committed. The attempt is null if it ended before its job was looked at. */
  failed(error: unknown, attempt: FlushAttempt | null): void
}

/**
 * The transaction of one job, on a connection of its own. pg-boss opens it and passes it to the handler as `db`. Then
 * it completes the job in it, and commits it or rolls it back.
 *
 * The handler can't know whether its flush will commit, and pg-boss does not tell. So the report is made here, at the
 * end of the transaction. A flush is reported only if it has committed, and a failure after the handler is reported
 * too.
 */
export class JobTransaction {
  /** The schema of the tables, if one is named. The transaction has set the path to it. */
  readonly schema: string | undefined
  readonly #client: PooledClient
  readonly #reports: TransactionReports
  /** A pool does not listen to a client that is in use. An error that nobody hears would end the process. */
  readonly #onError = (error: Error) => this.#break(error)
  #attempt: FlushAttempt | null = null
  #flush: FinishedFlush | undefined
  /** What the handler threw. Before that, the first error of a statement or of the connection. */
  #error: unknown
  #released = false
  #reported = false

  private constructor(client: PooledClient, reports: TransactionReports, schema: string | undefined) {
    this.schema = schema
    this.#client = client
    this.#reports = reports
    client.on('error', this.#onError)
  }

  /**
   * Begins a transaction. It owns the client from now on, and releases it at its end. It is READ COMMITTED, whatever the
   * database's default is: a flush must see what others have just committed.
   *
   * @param schema The schema of the tables. Default: `search_path` leads to them.
   */
  static async begin(
    client: PooledClient,
    reports: TransactionReports,
    schema?: string,
  ): Promise<JobTransaction> {
    const transaction = new JobTransaction(client, reports, schema)
    try {
      await client.query(beginIn(BEGIN, schema))
    } catch (error) {
      transaction.#release(error as Error)
      throw error
    }
    return transaction
  }

  /** Returns the transaction of a handler. It is the same object as the `db` that pg-boss passes to the handler. */
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
    // pg-boss may have given up on a handler that still runs. Somebody else may use the client by now.
    if (this.#released) throw this.#error ?? new Error('the transaction of this job has already ended')
    const send = () => this.#client.query(text, values)
    try {
      const answer = await (this.#attempt ? this.#attempt.within(send) : send())
      if (BACK.test(text)) this.#error = undefined
      return answer
    } catch (error) {
      this.#error ??= error
      throw error
    }
  }

  /** Records which job it is for. From now on each statement belongs to the attempt, the COMMIT included. */
  belongsTo(attempt: FlushAttempt): void {
    this.#attempt = attempt
  }

  /** Records the handler's flush. It is reported if the transaction commits. */
  succeeded(flush: FinishedFlush): void {
    this.#flush = flush
  }

  /** Records the handler's error. It is reported when the transaction is rolled back. */
  failed(error: unknown): void {
    this.#error = error
  }

  /** @throws The database's error if COMMIT fails. pg-boss calls `rollback` then. */
  async commit(): Promise<void> {
    try {
      await this.query('COMMIT')
    } catch (error) {
      this.#release(error as Error)
      throw error
    }
    this.#release()
    this.#report(reports => {
      if (this.#flush && this.#attempt) reports.committed(this.#flush, this.#attempt)
    })
  }

  /** Never rejects, and ends in bounded time. It may be called again. */
  async rollback(): Promise<void> {
    if (!this.#released) this.#release(await this.#tryRollback())
    const error =
      this.#error ?? new Error('the job was taken away from this worker before its flush could commit')
    this.#report(reports => reports.failed(error, this.#attempt))
  }

  #break(error: Error): void {
    this.#error ??= error
    this.#release(error)
  }

  /** @param broken Set if the connection can't be used again. The pool drops it then. */
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

  /** @returns The reason if it failed. */
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
