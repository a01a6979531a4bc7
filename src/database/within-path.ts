import { pathStatements } from './schema-path.ts'
import { sqlState } from './sql-state.ts'

/** Sends a statement on one session. */
export type Send<Answer extends { rows: unknown[] }> = (
  sql: string,
  parameters?: readonly unknown[],
) => Promise<Answer>

/** READ COMMITTED, whatever the database's default is. Each statement must see what others have just committed. */
export const BEGIN = 'BEGIN ISOLATION LEVEL READ COMMITTED'

/** Asks whether a session is in a transaction. There is no way to ask every driver but one: only there can a savepoint be set. */
export async function isInTransaction<Answer extends { rows: unknown[] }>(
  send: Send<Answer>,
  savepoint: string,
): Promise<boolean> {
  try {
    await send(`SAVEPOINT ${savepoint}`)
    return true
  } catch (error) {
    // no_active_sql_transaction
    if (sqlState(error) !== '25P01') throw error
    return false
  }
}

/**
 * Sets the path to a schema in a transaction.
 *
 * @returns Puts the former path back.
 */
export async function setPath<Answer extends { rows: unknown[] }>(
  send: Send<Answer>,
  schema: string,
): Promise<() => Promise<void>> {
  const { rows } = await send(`SELECT pg_catalog.current_setting('search_path') AS path`)
  for (const statement of pathStatements(schema)) await send(statement)
  const { path } = rows[0] as { path: string }
  return async () => {
    await send(`SELECT pg_catalog.set_config('search_path', $1, true)`, [path])
  }
}

/**
 * Runs one statement on a session, with the path to a schema. Outside a transaction it runs in one of its own. In a
 * transaction of the caller it is part of that: if it fails, that transaction is aborted, as without the path.
 *
 * @param isFresh Whether the session is known to be in no transaction.
 */
export async function sendWithinPath<Answer extends { rows: unknown[] }>(
  send: Send<Answer>,
  schema: string,
  isFresh: boolean,
  statement: () => Promise<Answer>,
): Promise<Answer> {
  if (!isFresh && (await isInTransaction(send, SAVEPOINT))) {
    await send(`RELEASE SAVEPOINT ${SAVEPOINT}`)
    const putBack = await setPath(send, schema)
    const answer = await statement()
    await putBack()
    return answer
  }
  try {
    // A session that is not a pool's may have a driver that takes one statement at a time.
    const begin = [BEGIN, ...pathStatements(schema)]
    for (const text of isFresh ? [begin.join('; ')] : begin) await send(text)
    const answer = await statement()
    await send('COMMIT')
    return answer
  } catch (error) {
    // On a connection that is lost, it would wait for ever.
    if (sqlState(error) !== undefined) await send('ROLLBACK').catch(() => {})
    throw error
  }
}

const SAVEPOINT = 'usage_path'

const turns = new WeakMap<object, Promise<unknown>>()

/** Lets the statements of a session come one after the other, because each is several now. */
export async function inTurn<Result>(session: object, run: () => Promise<Result>): Promise<Result> {
  const before = turns.get(session)
  const mine = (async () => {
    await before
    return await run()
  })()
  const ended = mine.then(
    () => {},
    () => {},
  )
  turns.set(session, ended)
  return await mine
}
