import { checkOption } from '../options.ts'
import { A_CONNECTION, type Connection, execute, type Statement, type StatementResult } from './connection.ts'
import { isPool } from './deadline.ts'
import { placeOf } from './schema-path.ts'
import { transactionOn } from './transaction.ts'

/** A statement that reads a million rows is answered in seconds. After this time, nobody is there. */
const ANSWER_WITHIN_MS = 600_000

const JIT_OFF: Statement<never> = { sql: 'SET LOCAL jit = off', parameters: [] }

/**
 * Runs a statement that reads all workspaces. PostgreSQL would compile it first, because it believes that it takes long.
 * That takes seconds, for each page, and the statement a part of one. The setting must be off before the statement is
 * planned, so it runs in a transaction of its own: on a pool or a Kysely instance. On anything else, such as a session
 * of the caller, it runs as it is.
 *
 * @throws {NoAnswerError} If it runs in a transaction of its own and is not answered within ten minutes.
 * @throws As `execute` for everything else.
 */
export async function executeWithoutJit<Row>(
  connection: Connection,
  statement: Statement<Row>,
): Promise<StatementResult<Row>> {
  checkOption('connection', connection, A_CONNECTION)
  const { plain } = placeOf(connection)
  const canBegin = isPool(plain) || ('isTransaction' in plain && plain.isTransaction === false)
  if (!canBegin) return await execute(connection, statement)
  return await transactionOn(connection, ANSWER_WITHIN_MS, async ({ connection: session }) => {
    await execute(session, JIT_OFF)
    return await execute(session, statement)
  })
}
