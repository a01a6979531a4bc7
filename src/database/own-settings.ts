import { sql } from 'kysely'
import { compile } from './compile.ts'
import { type Connection, execute } from './connection.ts'

/** What a session, role or database may have set, and what our changes of the schema need instead. */
const SETTINGS: Record<string, string> = {
  // The host's limits are for its own statements. Building an index may take long.
  statement_timeout: '0',
  transaction_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  DateStyle: 'ISO',
  IntervalStyle: 'postgres',
  standard_conforming_strings: 'on',
  quote_all_identifiers: 'off',
  row_security: 'off',
  check_function_bodies: 'on',
}

/** For how long our own settings hold. */
export interface SettingsScope {
  /** Until the end of the transaction, or of the session. */
  until: 'transaction' | 'session'
  /** The longest wait for one lock, such as `5s`. `0` is no limit. */
  lockTimeout: string
}

/**
 * Makes a session independent of the host's settings. A setting that this version of PostgreSQL does not have is left
 * out. Set them until the end of a session only if no pooler is between: it would give the session to others.
 */
export async function useOwnSettings(connection: Connection, scope: SettingsScope): Promise<void> {
  const settings = Object.entries({ ...SETTINGS, lock_timeout: scope.lockTimeout })
  const names = settings.map(([name]) => name)
  const values = settings.map(([, value]) => value)
  await execute(
    connection,
    compile(sql`
      SELECT set_config(name, value, ${scope.until === 'transaction'}::boolean)
      FROM unnest(${names}::text[], ${values}::text[]) AS wanted (name, value)
      WHERE current_setting(name, true) IS NOT NULL`),
  )
}
