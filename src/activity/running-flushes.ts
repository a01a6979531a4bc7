import { setTimeout } from 'node:timers/promises'
import { type Connection, execute, type Statement } from '../database/connection.ts'

/** Longer than a flush may take by default. */
const LONGEST_WAIT_MS = 60_000

const PAUSE_MS = 50

/** SQL of the transactions that write the history. The flush is one of them. */
const WRITING: Statement<{ transaction: string }> = {
  sql: `SELECT DISTINCT virtualtransaction AS transaction FROM pg_catalog.pg_locks
    WHERE locktype = 'relation' AND relation = 'workspace_usage_day'::regclass AND mode = 'RowExclusiveLock' AND granted
      AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND pid <> pg_backend_pid()`,
  parameters: [],
}

/** Waits until the flushes that run now have ended, at most a minute. */
export async function awaitFlushes(connection: Connection): Promise<void> {
  const deadline = performance.now() + LONGEST_WAIT_MS
  const running = async () => (await execute(connection, WRITING)).rows.map(({ transaction }) => transaction)
  let left = await running()
  while (left.length > 0 && performance.now() < deadline) {
    await setTimeout(PAUSE_MS)
    const now = new Set(await running())
    left = left.filter(transaction => now.has(transaction))
  }
}
