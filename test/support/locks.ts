import pg from 'pg'
import type { Queryable } from '../../src/database/connection.ts'
import type { TestDatabase } from './database.ts'
import { until } from './poll.ts'

/**
 * Waits until the backend `pid` waits for a lock, and returns the backends that block it. `pid` is the `processID` of
 * a `pg` Client, and `db` must be another connection.
 * @throws DeadlineError after `timeoutMs`, default 10 s
 */
export async function untilBlocked(
  db: Queryable,
  pid: number,
  options: { timeoutMs?: number } = {},
): Promise<number[]> {
  const { blockers } = await until(`backend ${pid} waits for a lock`, () => backendActivity(db, pid), {
    ...options,
    accept: ({ wait_event_type, blockers }) => wait_event_type === 'Lock' && blockers.length > 0,
  })
  return blockers
}

/** Waits until some backend waits for a lock that the backend `pid` holds. @throws DeadlineError after 10 s */
export async function untilBlockedBy(db: Queryable, pid: number): Promise<void> {
  await until(`a backend waits for backend ${pid}`, async () => {
    const { rows } = await db.query('SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))', [
      pid,
    ])
    return rows.length > 0
  })
}

/**
 * Makes each new connection to the database give up with an error (55P03) after it has waited 5 s for a lock. A test
 * that nothing waits then fails instead of hanging.
 */
export async function giveUpWaitingForLocks(database: TestDatabase): Promise<void> {
  const client = await database.connect()
  await client.query(`ALTER DATABASE ${pg.escapeIdentifier(database.name)} SET lock_timeout = '5s'`)
  await client.end()
}

/** What a backend does now; undefined if no backend has this `pid`. */
export async function backendActivity(db: Queryable, pid: number): Promise<BackendActivity | undefined> {
  const { rows } = await db.query(
    `SELECT state, wait_event_type, wait_event, query, pg_blocking_pids(pid) AS blockers
     FROM pg_stat_activity WHERE pid = $1`,
    [pid],
  )
  return rows[0] as BackendActivity | undefined
}

/** A row of `pg_stat_activity`, and the backends that block this one. */
export interface BackendActivity {
  state: string | null
  wait_event_type: string | null
  wait_event: string | null
  query: string
  blockers: number[]
}
