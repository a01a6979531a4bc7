import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { execute } from '../database/connection.ts'
import type { OpenTransaction } from '../database/transaction.ts'

/** The longest wait for one lock, in ms. It is well below any `deadlock_timeout`, so that we are in no deadlock. */
export const LOCK_TIMEOUT_MS = 100

/**
 * The longest time between two statements of a flush, in ms. Its process may stand still there: Ctrl-Z, a debugger, a
 * paused machine. Its locks would last as long.
 */
const IDLE_TIMEOUT_MS = 10_000
const IDLE_TIMEOUT = 'idle_in_transaction_session_timeout'

/**
 * Makes a transaction fit for a flush, whatever the settings of the session, the role or the database are. All is set
 * until the end of the transaction only.
 *
 * - Row security is off. That does not show hidden rows: PostgreSQL refuses the statement instead. Hidden workspaces
 *   would look as if they did not exist.
 * - A wait for a lock ends soon. SKIP LOCKED does not end all waits: when the updater of a row commits while the lock is
 *   being taken, PostgreSQL follows the row to its next version, and waits for the updater of that one.
 * - The server ends a transaction of ours that stands still. pg-boss does the same for the transaction of a job.
 * - Deferred constraints are checked at once, so that an error comes while the flush can still go around it.
 * - No sequential scan where there is another way. After VACUUM of an emptied `pending_usage`, the planner believes that
 *   it stays empty, and reads all of it to find rows by `ctid`. Each row was compared with each one then.
 * - Nothing is compiled (JIT). Planner costs that forbid something would have it compiled, and that takes seconds.
 *
 * @param timeoutMs The server cancels a statement after this time. A lower limit of the host stays.
 * @returns Puts the settings back, because the transaction may go on with statements of others.
 */
export async function prepare(
  { connection, callers }: OpenTransaction,
  timeoutMs: number,
): Promise<() => Promise<void>> {
  // In a transaction of the caller, this would check the caller's own constraints earlier than it wants.
  if (!callers) await execute(connection, { sql: 'SET CONSTRAINTS ALL IMMEDIATE', parameters: [] })
  const { rows } = await execute(
    connection,
    compile(sql<{ before: string }>`
      WITH before AS MATERIALIZED (
        SELECT json_build_array(
          current_setting('row_security'), current_setting('lock_timeout'), current_setting('statement_timeout'),
          current_setting('enable_seqscan'), current_setting('jit')
        )::text AS settings
      ), host AS MATERIALIZED (
        SELECT ${milliseconds('lock_timeout')} AS lock_timeout,
          ${milliseconds('statement_timeout')} AS statement_timeout, ${milliseconds('deadlock_timeout')} AS deadlock_timeout,
          ${milliseconds(IDLE_TIMEOUT)} AS idle_timeout
      )
      SELECT before.settings AS before, set_config('row_security', 'off', true),
        set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true),
        set_config(
          'lock_timeout', least(${LOCK_TIMEOUT_MS}, lock_timeout, greatest(1, deadlock_timeout / 2))::text, true
        ),
        set_config('statement_timeout', least(${Math.round(timeoutMs)}::bigint, statement_timeout)::text, true),
        CASE WHEN NOT ${callers}::boolean
          THEN set_config(${IDLE_TIMEOUT}, least(${IDLE_TIMEOUT_MS}::bigint, idle_timeout)::text, true) END
      FROM before, host`),
  )
  const [rowSecurity, lockTimeout, statementTimeout, seqScan, jit] = JSON.parse(rows[0]!.before) as string[]
  return async () => {
    await execute(
      connection,
      compile(sql`
        SELECT set_config('row_security', ${rowSecurity}, true), set_config('lock_timeout', ${lockTimeout}, true),
          set_config('statement_timeout', ${statementTimeout}, true), set_config('enable_seqscan', ${seqScan}, true),
          set_config('jit', ${jit}, true)`),
    )
  }
}

/** SQL of a setting in ms. Null if it is 0, which means no limit. Its text has a unit. (The view pg_settings takes a ms.) */
export function milliseconds(name: string): RawBuilder<unknown> {
  return sql`nullif(extract(epoch FROM pg_catalog.current_setting(${sql.lit(name)})::interval) * 1000, 0)::bigint`
}
