import type { CompiledQuery, QueryExecutorProvider } from 'kysely'
import { checkOption, whatever } from '../options.ts'
import { explainDatabaseError } from './explain-error.ts'
import type { ConnectionPool, PooledClient } from './pool.ts'
import { placedIn, placeOf, schemaOf } from './schema-path.ts'
import { isPool, takeClient } from './take-client.ts'
import { inTurn, sendWithinPath } from './within-path.ts'

/** What `pg`'s Pool and Client, PGlite and a pooled client inside a transaction have in common. */
export interface Queryable {
  query(
    text: string,
    values?: unknown[],
  ): Promise<{ rows: unknown[]; rowCount?: number | null; affectedRows?: number }>
}

/** The part of a `Kysely` instance or transaction that is used here; any database type fits. */
export interface KyselyExecutor extends QueryExecutorProvider {
  executeQuery<Row>(query: CompiledQuery<Row>): Promise<{ rows: Row[]; numAffectedRows?: bigint }>
}

/**
 * Where a statement runs: a `pg` Pool or Client, PGlite, or a `Kysely` instance or transaction. The caller owns it:
 * nothing here connects, ends or configures it, and inside a transaction the statement is part of it.
 */
export type Connection = Queryable | KyselyExecutor

/** The rule of an argument that is a {@link Connection}. */
export const A_CONNECTION = whatever('a pg Pool or Client, PGlite, or a Kysely instance', value =>
  ['query', 'executeQuery'].some(method => typeof Object(value)[method] === 'function'),
)

/**
 * A statement as it travels: its text with `$1`, `$2`, … and their values. `Row` is the type of its rows. What Kysely
 * compiles fits. A marking service writes its one statement out and loads no Kysely.
 */
export interface Statement<Row> {
  readonly sql: string
  readonly parameters: readonly unknown[]
  /** The schema of our tables, if the text names it itself or the path leads to it already. Then no path is set. */
  readonly schema?: string
  /** Never there: it only carries the type. */
  readonly row?: Row
}

/** The rows of a statement, and how many rows it inserted, updated or deleted (undefined if the driver won't say). */
export interface StatementResult<Row> {
  rows: Row[]
  affected: number | undefined
}

/**
 * Runs a statement as one round trip, or as a few if the connection is in a schema. Every statement of this package goes through here, so that an error means the
 * same wherever it comes from.
 *
 * @param cancellation If it is aborted, a statement that still waits for a connection is not sent. Default: it is sent.
 * @throws {InvalidOptionError} If it is no connection.
 * @throws {NotMigratedError} If a table, function, column or schema is missing.
 * @throws {StandbyError} On a standby, or in a read-only session.
 * @throws The driver's own error for everything else.
 */
export async function execute<Row>(
  connection: Connection,
  statement: Statement<Row>,
  cancellation?: AbortSignal,
): Promise<StatementResult<Row>> {
  checkOption('connection', connection, A_CONNECTION)
  try {
    return await send(connection, statement, cancellation)
  } catch (error) {
    throw explainDatabaseError(error, statement.schema ?? schemaOf(connection))
  }
}

async function send<Row>(
  connection: Connection,
  statement: Statement<Row>,
  cancellation?: AbortSignal,
): Promise<StatementResult<Row>> {
  const { plain, schema: placed, isFresh } = placeOf(connection)
  const schema = statement.schema === undefined ? placed : undefined
  if (schema !== undefined && isPool(plain)) {
    return await onClientOf(plain, client => send(placedIn(client, schema, true), statement))
  }
  const within = (session: Session) => {
    const run = () => session(statement.sql, statement.parameters)
    return schema === undefined ? run() : sendWithinPath(session, schema, isFresh, run)
  }
  const onSession = () => within((sql, parameters = []) => sendQuery(plain as Queryable, sql, parameters))
  const onReserved = (executor: KyselyExecutor) =>
    // Straight to the connection, because plugins would rename the columns of our rows and change their values.
    executor.getExecutor().provideConnection(reserved => {
      cancellation?.throwIfAborted()
      return within((sql, parameters = []) => sendReserved(reserved, sql, parameters))
    })
  const answer =
    'executeQuery' in plain
      ? onReserved(plain)
      : schema === undefined
        ? onSession()
        : inTurn(plain, onSession)
  return (await answer) as StatementResult<Row>
}

/** Sends one statement on a connection that nobody else uses meanwhile. */
type Session = (sql: string, parameters?: readonly unknown[]) => Promise<StatementResult<unknown>>

async function sendReserved(
  reserved: Pick<KyselyExecutor, 'executeQuery'>,
  sql: string,
  parameters: readonly unknown[],
): Promise<StatementResult<unknown>> {
  const { rows, numAffectedRows } = await reserved.executeQuery(asKyselyQuery(sql, parameters))
  return { rows, affected: numAffectedRows === undefined ? undefined : Number(numAffectedRows) }
}

async function sendQuery(
  queryable: Queryable,
  sql: string,
  parameters: readonly unknown[],
): Promise<StatementResult<unknown>> {
  const { rows, rowCount, affectedRows } = await queryable.query(sql, [...parameters])
  return { rows, affected: rowCount ?? affectedRows }
}

/** As `query` of a pool does it: after an error the client is dropped. */
async function onClientOf<Result>(
  pool: ConnectionPool,
  run: (client: PooledClient) => Promise<Result>,
): Promise<Result> {
  const client = await takeClient(pool)
  let failure: Error | undefined
  try {
    return await run(client)
  } catch (error) {
    failure = error as Error
    throw error
  } finally {
    client.release(failure)
  }
}

/** What Kysely's `CompiledQuery.raw` makes, without loading Kysely. */
function asKyselyQuery<Row>(sql: string, parameters: readonly unknown[]): CompiledQuery<Row> {
  return {
    sql,
    parameters,
    query: { kind: 'RawNode', sqlFragments: [sql], parameters: [] },
    queryId: { queryId: crypto.randomUUID() },
  }
}

interface ErrorListening {
  listeners: Set<(error: unknown) => void>
  stop(): void
}

/** Each connection has one listener of ours, whoever listens, because Node warns of more than ten. */
const listening = new WeakMap<object, ErrorListening>()

/**
 * Listens for the errors of idle connections of a pool. Without a listener they end the process. A connection that
 * reports no such errors, such as a Kysely instance, is left alone.
 *
 * @returns Stops listening.
 */
export function listenForErrors(placed: Connection, listener: (error: unknown) => void): () => void {
  const connection = placeOf(placed).plain
  if (!emitsErrors(connection)) return () => {}
  const { listeners, stop } = listening.get(connection) ?? startListening(connection)
  // A function of its own, because the same listener may be passed twice.
  const tell = (error: unknown) => listener(error)
  listeners.add(tell)
  return () => {
    if (listeners.delete(tell) && listeners.size === 0) stop()
  }
}

function startListening(connection: ErrorEmitter): ErrorListening {
  const listeners = new Set<(error: unknown) => void>()
  const tellAll = (error: unknown) => {
    for (const tell of listeners) tell(error)
  }
  connection.on('error', tellAll)
  const stop = () => {
    connection.removeListener('error', tellAll)
    listening.delete(connection)
  }
  const started = { listeners, stop }
  listening.set(connection, started)
  return started
}

interface ErrorEmitter {
  on(event: 'error', listener: (error: unknown) => void): unknown
  removeListener(event: 'error', listener: (error: unknown) => void): unknown
}

function emitsErrors(connection: object): connection is ErrorEmitter {
  return 'on' in connection && typeof connection.on === 'function' && 'removeListener' in connection
}
