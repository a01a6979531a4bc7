import pg from 'pg'
import { InvalidOptionError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { hasMethods, whatever } from '../options.ts'
import { faultOf } from './connection-string.ts'
import { answerWithin, destroyConnection } from './deadline.ts'

/** What this package needs of a `pg` Pool. Its own types, so that ours don't depend on `@types/pg`. */
export interface ConnectionPool {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[]; rowCount: number | null }>
  connect(): Promise<PooledClient>
  on(event: 'error', listener: (error: Error) => void): unknown
  removeListener(event: 'error', listener: (error: Error) => void): unknown
}

/** What this package needs of a client that such a pool hands out. */
export interface PooledClient {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[]; rowCount: number | null }>
  on(event: 'error', listener: (error: Error) => void): unknown
  removeListener(event: 'error', listener: (error: Error) => void): unknown
  release(error?: Error | boolean): void
}

/** The rule of an argument that is a {@link ConnectionPool}. */
export const A_POOL = hasMethods('a pg Pool', ['query', 'connect', 'on', 'removeListener'])

/**
 * The rule of an option that is a connection string. It accepts everything, because {@link createPool} has errors of its
 * own, which do not show the value.
 */
export const A_CONNECTION_STRING = whatever('a URL such as postgres://user@host:5432/database', () => true)

/** A pool that this package makes and ends. */
export interface OwnedPool extends ConnectionPool {
  end(): Promise<void>
}

/** Options of {@link createPool}. */
export interface PoolOptions {
  /** `pg_stat_activity` shows it. It is the source of marks that name none. One in the connection string wins. */
  applicationName: string
  /** The most connections. */
  max: number
  /** Milliseconds to wait for the answer to a statement. A connection that misses it is destroyed. Default 60,000. */
  statementTimeoutMs?: number
  /** Logs idle connections that break. That is no failure, because the pool replaces them. Default: no log. */
  logger?: Logger
}

const CONNECT_TIMEOUT_MS = 10_000
const DEFAULT_STATEMENT_TIMEOUT_MS = 60_000
/** Linux waits two hours by default. Node then asks every second, and gives up after ten unanswered questions. */
const KEEP_ALIVE_AFTER_MS = 10_000

/**
 * Makes a `pg` Pool for a connection string. It connects when it is first used. It gives up on a server that does not
 * answer within 10 s, and on a statement that is not answered in time (`NoAnswerError`). TCP keep-alive notices a
 * connection that went silent while it was idle.
 *
 * @throws {InvalidOptionError} If the connection string is not one that `pg` understands as it is meant. The error tells what is
 *   allowed in the place that is wrong. The string is not quoted, because it may hold a password.
 */
export function createPool(connectionString: string, options: PoolOptions): OwnedPool {
  const { applicationName, max, statementTimeoutMs = DEFAULT_STATEMENT_TIMEOUT_MS, logger } = options
  const fault = faultOf(connectionString)
  if (fault !== undefined) throw invalid(fault)
  let pool: pg.Pool
  try {
    // A pool parses the string only when it connects. That would be too late for a clear error.
    new pg.Client({ connectionString })
    pool = new pg.Pool({
      connectionString,
      max,
      application_name: applicationName,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_AFTER_MS,
      Client: clientThatAnswersWithin(statementTimeoutMs),
    })
  } catch {
    throw invalid(A_CONNECTION_STRING.words)
  }
  pool.on('error', error => logger?.warn({ err: error }, 'an idle database connection broke'))
  return pool
}

function invalid(allowed: string): InvalidOptionError {
  return new InvalidOptionError('connectionString', '(not shown, it may hold a password)', allowed)
}

/** The last argument of `pg`'s `query`, if it is not used as a promise. */
type QueryCallback = (error: unknown, result?: unknown) => void

/**
 * A `pg` Client with a deadline for each statement. `pg` has one, `query_timeout`, but then gives a connection that is
 * waiting for the late answer to the next user of its pool.
 */
function clientThatAnswersWithin(ms: number): new (config?: pg.ClientConfig) => pg.Client {
  return class DeadlineClient extends pg.Client {
    // pg declares ten forms of it. These are the two that a pool, Kysely and this package use.
    override query(text: unknown, values?: unknown, callback?: unknown): never {
      const [parameters, done] = typeof values === 'function' ? [undefined, values] : [values, callback]
      const answer = answerWithin(
        ms,
        () => super.query(text as string, parameters as unknown[]),
        () => destroyConnection(this),
      )
      if (typeof done !== 'function') return answer as never
      const tell = done as QueryCallback
      answer.then(result => tell(undefined, result), tell)
      return undefined as never
    }
  }
}
