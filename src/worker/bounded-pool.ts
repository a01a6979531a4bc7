import { answerWithin, connectWithin, destroyConnection, destroyIdle } from '../database/deadline.ts'
import type { ConnectionPool, PooledClient } from '../database/pool.ts'
import { beginIn, placeOf } from '../database/schema-path.ts'
import { BEGIN } from '../database/within-path.ts'
import { NoAnswerError, NoConnectionError } from '../errors.ts'
import { ANSWER_GRACE_MS } from '../flush/flush.ts'
import { PLAIN_TYPES } from './plain-types.ts'
import type { Reach } from './reach.ts'

type Answer = Awaited<ReturnType<ConnectionPool['query']>>

/**
 * The pool of a worker as pg-boss and we use it: nothing waits for ever, and no setting of the host matters. Each
 * statement is limited on the server, and a little later on our side. A connection that does not answer is destroyed.
 * Each transaction is READ COMMITTED, and a statement on its own is one too. Values are read in one way.
 *
 * It keeps nothing in a session, because a pooler or the host may give the session to somebody else.
 */
export class BoundedPool implements ConnectionPool {
  /** The schema of the tables, if one is named. Each transaction on its own sets the path to it. */
  readonly schema: string | undefined
  readonly #pool: ConnectionPool
  readonly #begin: string
  readonly #deadlineMs: number
  readonly #reach: Reach
  #isCut = false
  readonly #inUse = new Set<PooledClient>()
  readonly #clients = new WeakMap<PooledClient, PooledClient>()

  /** @param timeoutSeconds After so many seconds the server cancels a statement. */
  constructor(pool: ConnectionPool, timeoutSeconds: number, reach: Reach) {
    this.schema = placeOf(pool).schema
    this.#pool = pool
    this.#begin = `${beginIn(beginText(Math.round(timeoutSeconds * 1_000)), this.schema)};`
    this.#deadlineMs = timeoutSeconds * 1_000 + ANSWER_GRACE_MS
    this.#reach = reach
  }

  /** Whether {@link cut} was called. */
  get isCut(): boolean {
    return this.#isCut
  }

  /** Fails every statement under way and every later one, and destroys their connections. */
  cut(): void {
    this.#isCut = true
    for (const client of this.#inUse) destroyConnection(client)
  }

  /** Takes a client. It is for one transaction, and says itself how that begins. */
  async connect(): Promise<PooledClient> {
    const question = this.#reach.ask()
    try {
      const client = await connectWithin(this.#pool, this.#deadlineMs)
      this.#inUse.add(client)
      if (this.#isCut) destroyConnection(client)
      return this.#bounded(client)
    } catch (error) {
      const explained = error instanceof NoAnswerError ? new NoConnectionError(this.#deadlineMs) : error
      this.#reach.lost(question, explained)
      throw explained
    }
  }

  /** Runs a statement, or several without values, in a transaction of its own. */
  async query(text: string, values?: unknown[]): Promise<Answer> {
    const client = await this.connect()
    const question = this.#reach.ask()
    try {
      const answer = await this.#inTransaction(client, text, values)
      client.release()
      this.#reach.answered(question)
      return answer
    } catch (error) {
      client.release(error as Error)
      this.#reach.failed(question, error)
      throw error
    }
  }

  on(event: 'error', listener: (error: Error) => void): unknown {
    return this.#pool.on(event, listener)
  }

  removeListener(event: 'error', listener: (error: Error) => void): unknown {
    return this.#pool.removeListener(event, listener)
  }

  async #inTransaction(client: PooledClient, text: string, values?: unknown[]): Promise<Answer> {
    // pg-boss's longer tasks bring their own BEGIN and COMMIT.
    const own = text.replace(/^\s*BEGIN;/, () => this.#begin)
    if (own !== text) return await client.query(own, values)
    await client.query(this.#begin)
    const answer = await client.query(text, values)
    await client.query('COMMIT')
    return answer
  }

  /** The same object for the same client, because JobDatabase remembers which ones it has prepared. */
  #bounded(client: PooledClient): PooledClient {
    const known = this.#clients.get(client)
    if (known) return known
    const bounded: PooledClient = {
      query: (text, values) => this.#send(client, text, values),
      on: (event, listener) => client.on(event, listener),
      removeListener: (event, listener) => client.removeListener(event, listener),
      release: broken => {
        // The pool itself would say goodbye first, and wait for an answer.
        this.#inUse.delete(client)
        if (broken) destroyConnection(client)
        client.release(broken)
      },
    }
    this.#clients.set(client, bounded)
    return bounded
  }

  async #send(client: PooledClient, text: string, values?: unknown[]): Promise<Answer> {
    try {
      return await answerWithin(
        this.#deadlineMs,
        () => send(client, text, values),
        () => destroyConnection(client),
      )
    } catch (error) {
      // The idle connections may have gone silent with this one.
      if (error instanceof NoAnswerError) destroyIdle(this.#pool, this.#deadlineMs)
      throw error
    }
  }
}

/** `pg` takes the parsers of a statement along with it. Another driver may not, so it gets the plain form. */
function send(client: PooledClient, text: string, values?: unknown[]): Promise<Answer> {
  if (!('getTypeParser' in client)) return client.query(text, values)
  const query = { text, values, types: PLAIN_TYPES }
  return client.query(query as unknown as string)
}

/**
 * It returns no rows, because pg-boss takes the rows of all statements of a text together.
 *
 * A COMMIT may get lost in a network that went silent. Without a limit for idle transactions the server would keep the
 * job locked for hours, and each flush that sends a job would wait for it.
 */
function beginText(timeoutMs: number): string {
  const limits = ['statement_timeout', 'idle_in_transaction_session_timeout'].map(
    name => `SET LOCAL ${name} = ${timeoutMs}`,
  )
  return [BEGIN, ...limits].join('; ')
}
