import { executeSql } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import type { Taking } from './due-marks.ts'
import { CANCELLED, isLockTimeout, mayConcernOneWorkspace, type Reason, reasonOf } from './refusal.ts'
import { type FlushCounts, type FlushStatementOptions, flushStatement } from './statement.ts'

/** An attempt to flush: what it did, or why it could not. After a failure nothing of it is left. */
export type Attempt = { counts: FlushCounts } | Failure

/** An attempt that failed for what may be the fault of one workspace. */
export interface Failure {
  error: unknown
  reason: Reason
  /** The workspaces at fault, if they are known. */
  workspaceIds?: readonly string[]
}

/**
 * How often the statement is tried if a lock was not free. From the second time on it locks carefully. Mostly the second
 * time goes through: the lock was that of a row whose versions followed each other quickly.
 */
const TRIES = 4

export type AttemptOptions = Omit<FlushStatementOptions, 'careful'>

/**
 * Runs the flush statement behind a savepoint. On a shard it is a transaction of its own, and needs none.
 *
 * @param tries How often it is tried if a lock is not free. Default 4.
 * @throws The error of the statement, if it concerns everybody. The transaction has failed then.
 */
export async function attemptFlush(
  connection: Connection,
  taking: Taking,
  options: AttemptOptions,
  tries = TRIES,
): Promise<Attempt> {
  for (let made = 1; ; made++) {
    const how = { careful: made > 1, direct: made === 1 && options.direct === true }
    const attempt = await attemptOnce(connection, taking, { ...options, ...how })
    if ('counts' in attempt || made === tries || !isLockTimeout(attempt.error)) return attempt
  }
}

async function attemptOnce(
  connection: Connection,
  taking: Taking,
  options: FlushStatementOptions,
): Promise<Attempt> {
  const undo = options.onShard ? async () => {} : () => undoTo(connection)
  if (!options.onShard) await run(connection, 'SAVEPOINT usage_flush')
  try {
    const { rows } = await executeSql(connection, flushStatement(taking, options))
    const counts = JSON.parse(rows[0]!.counts) as FlushCounts
    // The savepoint stays until the transaction ends. To release it would be one more round trip under locks.
    if (counts.unmoved.length === 0 && counts.exact) return { counts }
    await undo()
    if (options.direct && !counts.exact)
      return await attemptOnce(connection, taking, { ...options, direct: false })
    return { error: undefined, reason: CANCELLED, workspaceIds: counts.unmoved }
  } catch (error) {
    if (!mayConcernOneWorkspace(error)) throw error
    await undo()
    return { error, reason: reasonOf(error) }
  }
}

async function undoTo(connection: Connection): Promise<void> {
  await run(connection, 'ROLLBACK TO SAVEPOINT usage_flush')
  await run(connection, 'RELEASE SAVEPOINT usage_flush')
}

async function run(connection: Connection, sql: string): Promise<void> {
  await execute(connection, { sql, parameters: [] })
}
