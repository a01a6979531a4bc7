import type { Kysely } from 'kysely'
import { type Connection, execute, type Queryable, type Statement } from './connection.ts'
import { answerWithin, connectWithin, destroyConnection, executeWithin, isPool } from './deadline.ts'
import type { ConnectionPool } from './pool.ts'
import { beginIn, placeOf } from './schema-path.ts'
import { BEGIN, inTurn, isInTransaction, type Send, setPath } from './within-path.ts'

/** A transaction that {@link transactionOn} has opened or found. */
export interface OpenTransaction {
  /** Where its statements run. Each has a deadline. */
  connection: Connection
  /** Whether the caller had opened it. Then it goes on after we are done, and its other settings are the caller's. */
  callers: boolean
}

/**
 * Runs something in a transaction. A pool gives a client for it. A connection that is in a transaction already keeps
 * it: a savepoint is set, and what was done is undone if `run` fails. On a `pg` Client that is in no transaction, one
 * is begun. Nobody else may use that Client meanwhile.
 *
 * @param ms The deadline of each statement, in milliseconds.
 * @throws {NoAnswerError} If a statement is not answered in time.
 * @throws What `run` throws, after a rollback.
 */
export async function transactionOn<Result>(
  connection: Connection,
  ms: number,
  run: (transaction: OpenTransaction) => Promise<Result>,
): Promise<Result> {
  const { plain, schema } = placeOf(connection)
  if (isPool(plain)) return await onPool(plain, schema, ms, run)
  if (isKysely(plain)) {
    return await plain
      .transaction()
      .setIsolationLevel('read committed')
      .execute(async transaction => {
        const session = withDeadline(transaction, schema, ms)
        if (schema !== undefined) await setPath(sendOn(session), schema)
        return await run({ connection: session, callers: false })
      })
  }
  const alone = () => onSession(plain, schema, ms, run)
  return await (schema === undefined ? alone() : inTurn(plain, alone))
}

async function onPool<Result>(
  pool: ConnectionPool,
  schema: string | undefined,
  ms: number,
  run: (transaction: OpenTransaction) => Promise<Result>,
): Promise<Result> {
  const client = await connectWithin(pool, ms)
  const queryable: SessionIn = {
    schema,
    query: (text, values) =>
      answerWithin(
        ms,
        () => client.query(text, values),
        () => destroyConnection(client),
      ),
  }
  let failure: Error | undefined
  try {
    await execute(queryable, command(beginIn(BEGIN, schema)))
    const result = await run({ connection: queryable, callers: false })
    await execute(queryable, command('COMMIT'))
    return result
  } catch (error) {
    failure = error as Error
    throw error
  } finally {
    // After an error the connection is closed. That rolls back, whatever state it is in.
    client.release(failure)
  }
}

/** On one session: a `pg` Client, PGlite, or the transaction of a Kysely instance or of a job. */
async function onSession<Result>(
  session: Connection,
  schema: string | undefined,
  ms: number,
  run: (transaction: OpenTransaction) => Promise<Result>,
): Promise<Result> {
  const connection = withDeadline(session, schema, ms)
  const callers = await isInTransaction(sendOn(connection), 'usage_transaction')
  if (!callers) await execute(connection, command(BEGIN))
  const [commit, rollback] = callers
    ? ['RELEASE SAVEPOINT usage_transaction', 'ROLLBACK TO SAVEPOINT usage_transaction']
    : ['COMMIT', 'ROLLBACK']
  try {
    const putBack = schema === undefined ? undefined : await setPath(sendOn(connection), schema)
    const result = await run({ connection, callers })
    if (callers) await putBack?.()
    await execute(connection, command(commit!))
    return result
  } catch (error) {
    await execute(connection, command(rollback!)).catch(() => {})
    throw error
  }
}

/** It is in the transaction that has set the path. The schema is for the errors of its statements. */
interface SessionIn extends Queryable {
  readonly schema: string | undefined
}

function withDeadline(session: Connection, schema: string | undefined, ms: number): SessionIn {
  const named = schema === undefined ? {} : { schema }
  return {
    schema,
    query: async (sql, parameters = []) => {
      const { rows, affected } = await executeWithin(session, { sql, parameters, ...named }, ms)
      return { rows, rowCount: affected ?? null }
    },
  }
}

function sendOn(connection: Connection): Send<{ rows: unknown[] }> {
  return (sql, parameters = []) => execute(connection, { sql, parameters })
}

function command(sql: string): Statement<never> {
  return { sql, parameters: [] }
}

/** A Kysely instance that is in no transaction. */
function isKysely(connection: object): connection is Kysely<unknown> {
  return 'isTransaction' in connection && connection.isTransaction === false
}
