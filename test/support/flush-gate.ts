import type { TestDatabase } from './database.ts'
import { until } from './poll.ts'

const KEY = 4_711

/**
 * Stops every flush in the middle, after its DELETE and before its UPDATE has ended, until the gate is opened.
 * The gate is a trigger on `workspaces` that waits for an advisory lock, for longer than a flush would by itself.
 */
export async function closeFlushGate(database: TestDatabase): Promise<FlushGate> {
  await database.pool.query(`
    CREATE OR REPLACE FUNCTION wait_at_flush_gate() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$
    BEGIN
      PERFORM pg_advisory_xact_lock_shared(${KEY});
      RETURN new;
    END
    $$;
    CREATE OR REPLACE TRIGGER flush_gate BEFORE UPDATE ON workspaces
      FOR EACH STATEMENT EXECUTE FUNCTION wait_at_flush_gate();`)
  const keeper = await database.connect()
  await keeper.query('SELECT pg_advisory_lock($1)', [KEY])
  const waiting = async () => {
    const { rows } = await database.pool.query(
      `SELECT pid FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'`,
    )
    return (rows as { pid: number }[]).map(({ pid }) => pid)
  }
  return {
    untilReached: async (flushes = 1) => {
      await until(`${flushes} flushes wait at the gate`, waiting, { accept: pids => pids.length >= flushes })
    },
    open: async () => {
      await keeper.query('SELECT pg_advisory_unlock($1)', [KEY])
    },
  }
}

/** See {@link closeFlushGate}. */
export interface FlushGate {
  /** Waits until that many flushes (default 1) stand at the gate. */
  untilReached(flushes?: number): Promise<void>
  /** Lets them through, and all that come later. */
  open(): Promise<void>
}
