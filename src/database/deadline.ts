import { NoAnswerError } from '../errors.ts'
import { type Connection, execute, type Statement, type StatementResult } from './connection.ts'
import type { ConnectionPool, PooledClient } from './pool.ts'
import { placedIn, placeOf } from './schema-path.ts'
import { sqlState } from './sql-state.ts'
import { isPool, takeClient } from './take-client.ts'

export { isPool } from './take-client.ts'

/*
 * A network can lose a connection and tell nobody. Then a statement waits for as long as the operating system likes.
 * So every statement has a deadline on our side of the wire.
 */

/**
 * Waits for an answer, but not for ever.
 *
 * @param destroy Called when the answer is late: it must make it harmless. What comes of the answer later is ignored.
 * @throws {NoAnswerError} If no answer came within `ms` milliseconds.
 */
export function answerWithin<T>(ms: number, answer: () => Promise<T>, destroy: () => void): Promise<T> {
  return new Promise((resolve, reject) => {
    let settled = false
    const giveUp = () => {
      if (settled) return
      destroy()
      reject(new NoAnswerError(ms))
    }
    // After a blocked event loop, or a machine's sleep, the timer is first. The answer may be there and be read next.
    const timer = setTimeout(() => setImmediate(giveUp), ms)
    const settle = () => {
      settled = true
      clearTimeout(timer)
    }
    ;(async () => answer())().finally(settle).then(resolve, reject)
  })
}

/**
 * Ends the socket of a `pg` client at once. Its own `end` says goodbye and waits, on a silent connection for ever. All
 * its statements fail. Does nothing to anything else, such as PGlite.
 */
export function destroyConnection(client: object): void {
  if (!isSocketClient(client)) return
  // After end() a pool takes the client for lost, and its closed socket is no error of the client.
  client.end().catch(() => {})
  client.connection.stream.destroy()
}

/**
 * Takes a client from a pool. Until it is released it has a listener, because an unheard error ends the process. If the
 * pool is in a schema, the client is not: whoever begins its transaction sets the path.
 *
 * @throws {NoAnswerError} If the pool gave none within `ms` milliseconds. One that comes later goes back to the pool.
 */
export async function connectWithin(placed: ConnectionPool, ms: number): Promise<PooledClient> {
  const { plain: pool } = placeOf(placed)
  const connecting = takeClient(pool)
  // A pool promises an idle client to two callers, and then opens a new one for the second, a tick later.
  let opened: object[] = []
  setImmediate(() => {
    opened = clientsOf(pool)
  })
  const giveUp = () => {
    connecting.then(late => late.release()).catch(() => {})
    // A new client that never connects would take a place in the pool for ever. These have tried for as long as we did.
    for (const client of opened) if (isConnecting(client)) client.connection.stream.destroy()
  }
  return await answerWithin(ms, () => connecting, giveUp)
}

/**
 * Runs a statement as `execute` does, but does not wait for ever.
 *
 * A client that does not answer is destroyed, and so is one that fails without an error of PostgreSQL. If it is a
 * pool's, so are the idle ones, because they may be as silent.
 * What was opened by somebody else, such as a connection of a Kysely instance, can't be reached. It is left alone: the
 * instance gives it to nobody else before it is answered, or its socket fails.
 *
 * @param ms Milliseconds to wait for a pool's client, and again for the answer.
 * @throws {NoAnswerError} If no answer came in time. The statement may still run.
 * @throws As `execute` for everything else.
 */
export async function executeWithin<Row>(
  connection: Connection,
  statement: Statement<Row>,
  ms: number,
): Promise<StatementResult<Row>> {
  if (isPool(connection)) return await executeOnPool(connection, statement, ms)
  const unsent = new AbortController()
  const giveUp = () => {
    unsent.abort()
    destroyConnection(placeOf(connection).plain)
  }
  return await answerWithin(ms, () => execute(connection, statement, unsent.signal), giveUp)
}

async function executeOnPool<Row>(
  placed: ConnectionPool,
  statement: Statement<Row>,
  ms: number,
): Promise<StatementResult<Row>> {
  let failure: unknown
  const { plain: pool, schema } = placeOf(placed)
  const client = await connectWithin(pool, ms)
  try {
    const destroy = () => destroyConnection(client)
    const isPlain = schema === undefined || statement.schema !== undefined
    const session = isPlain ? client : placedIn(client, schema, true)
    return await answerWithin(ms, () => execute(session, statement), destroy)
  } catch (error) {
    failure = error
    throw error
  } finally {
    // An error without SQLSTATE is one of the connection, such as that of a pool with a query_timeout of its own.
    const lost = failure !== undefined && sqlState(failure) === undefined
    if (lost) destroyConnection(client)
    client.release(failure !== undefined)
    if (lost) destroyIdle(pool, ms)
  }
}

/** How many idle clients of a pool are about to be destroyed. */
const doomed = new WeakMap<ConnectionPool, number>()

/**
 * Destroys the idle clients of a pool. They may be as silent as one that has just missed its deadline.
 *
 * @param ms Milliseconds to wait for each of them. Somebody else may take it first.
 */
export function destroyIdle(placed: ConnectionPool, ms: number): void {
  const { plain: pool } = placeOf(placed)
  const { idleCount = 0 } = pool as { idleCount?: number }
  // Several statements may miss their deadline at once. A pool without idle clients would open new ones, also silent.
  for (let idle = idleCount - (doomed.get(pool) ?? 0); idle > 0; idle--) void destroyOne(pool, ms)
}

async function destroyOne(pool: ConnectionPool, ms: number): Promise<void> {
  doomed.set(pool, (doomed.get(pool) ?? 0) + 1)
  try {
    const client = await connectWithin(pool, ms)
    destroyConnection(client)
    client.release(true)
  } catch {
    // There is none.
  } finally {
    doomed.set(pool, doomed.get(pool)! - 1)
  }
}

/** All clients of a pool. A pool tells nobody of those that are still connecting. Empty if the driver hides them. */
function clientsOf(pool: ConnectionPool): object[] {
  const { _clients: clients } = pool as { _clients?: unknown }
  return Array.isArray(clients) ? [...clients] : []
}

/** A client of `pg` whose server has not said yet that it may be used. */
function isConnecting(client: object): client is SocketClient {
  return isSocketClient(client) && (client as { _connecting?: unknown })._connecting === true
}

interface SocketClient {
  connection: { stream: { destroy(): void } }
  end(): Promise<void>
}

function isSocketClient(client: object): client is SocketClient {
  const { connection, end } = client as Partial<SocketClient>
  return typeof connection?.stream?.destroy === 'function' && typeof end === 'function'
}
