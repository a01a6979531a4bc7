import { type Connection, execute, type Queryable, type Statement } from '../database/connection.ts'
import type { ConnectionPool } from '../database/pool.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import { transactionOn } from '../database/transaction.ts'
import { StopEndedError, StopTimeoutError } from '../errors.ts'
import type { OutcomeKind } from './outcome.ts'
import type { ReapSettings } from './reap-options.ts'
import { noteStopped } from './stopped-workspaces.ts'

/** How much longer the server may take than our own deadline, in ms, so that ours is the one that is told. */
const SERVER_GRACE_MS = 2_000

/** What {@link stopIfStillIdle} needs to know. */
export type StopRules = Pick<ReapSettings, 'idleForSeconds' | 'stop' | 'stopTimeoutSeconds' | 'again'>

/** What became of one workspace. `incomplete` means that marks were lost meanwhile. */
export type Attempt =
  | { outcome: Exclude<OutcomeKind, 'failed' | 'would-stop'> }
  | { outcome: 'failed'; error: unknown }
  | { outcome: 'incomplete'; completeSince: Date }

interface Completeness {
  complete: boolean
  completeSince: string | null
}

/** What the second statement sees, and the third: whether that is complete. Times are as `asIsoText` writes them. */
interface Recheck extends Completeness {
  known: boolean
  idle: boolean
  stoppedBefore: boolean
  idleSince: string | null
  idleSeconds: number
  lastUsedAt: string | null
  source: string | null
  createdAt: string | null
}

/**
 * Stops one workspace, unless it was used since it was listed. A mark that is stored before the second statement always
 * prevents the stop.
 *
 * It needs two statements, in this order. The first one locks the workspace. After that, every flush leaves the marks of
 * this workspace pending. The second one has a snapshot of its own, taken after the lock. It sees each mark that is
 * stored by then, in `pending_usage` or already in `workspaces`, because the view reads both. In a single statement, or
 * under REPEATABLE READ, the snapshot would be older than the lock.
 *
 * A mark that is stored after the second statement came too late. It is not lost: `last_used_at` will show it.
 *
 * The first statement waits for nobody. If a flush, the application or another reaper holds the workspace, it is left for
 * the next run. A reaper that comes after another one sees in the second statement that it was stopped.
 *
 * @throws What went wrong before `stop` was called. After that it is the outcome `failed`.
 */
export async function stopIfStillIdle(
  pool: ConnectionPool,
  workspaceId: string,
  rules: StopRules,
): Promise<Attempt> {
  let isBegun = false
  try {
    const ms = rules.stopTimeoutSeconds * 1_000 + SERVER_GRACE_MS
    return await transactionOn(pool, ms + SERVER_GRACE_MS, async ({ connection }) => {
      await limitTransaction(connection, ms)
      const isLocked = await lock(connection, workspaceId)
      const found = await recheck(connection, workspaceId, rules.idleForSeconds)
      if (!found.known) return { outcome: 'gone' }
      if (!isLocked) return { outcome: 'held' }
      if (!found.complete) return { outcome: 'incomplete', completeSince: parseIsoText(found.completeSince!) }
      if (!found.idle) return { outcome: 'in-use' }
      if (found.stoppedBefore && !rules.again) return { outcome: 'stopped-before' }
      isBegun = true
      await callStop(connection, workspaceId, found, rules)
      // If stop has hidden the error of a statement, this fails. A COMMIT alone would roll back without an error.
      await noteStopped(connection, workspaceId, found.idleSince!)
      return { outcome: 'stopped' }
    })
  } catch (error) {
    if (!isBegun) throw error
    return { outcome: 'failed', error }
  }
}

/** A reaper that goes silent must not keep the workspace locked. */
async function limitTransaction(connection: Connection, ms: number): Promise<void> {
  await execute(connection, {
    sql: `SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true),
      set_config('idle_in_transaction_session_timeout', $1, true)`,
    parameters: [`${Math.ceil(ms)}ms`],
  })
}

async function lock(connection: Connection, workspaceId: string): Promise<boolean> {
  const { rows } = await execute<{ id: unknown }>(connection, {
    sql: 'SELECT id FROM workspaces WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED',
    parameters: [workspaceId],
  })
  return rows.length > 0
}

const finite = (time: string) => asIsoText(`CASE WHEN isfinite(${time}) THEN ${time} END`)

const RECHECK = `
  SELECT json_build_object(
    'cutoff', ${asIsoText('cutoff')}, 'known', known IS NOT NULL,
    'idle', coalesce(used_until IS NULL AND isfinite(idle_since) AND idle_since <= cutoff, false),
    'stoppedBefore', EXISTS (
      SELECT FROM stopped_workspaces s WHERE s.workspace_id = $1 AND s.idle_since >= found.idle_since
    ),
    'idleSince', ${finite('idle_since')},
    'idleSeconds', CASE WHEN isfinite(idle_since) THEN extract(epoch FROM statement_timestamp() - idle_since) END,
    'lastUsedAt', ${finite('last_used_at')}, 'source', source, 'createdAt', ${finite('created_at')}
  )::text AS found
  FROM (SELECT statement_timestamp() - make_interval(secs => $2) AS cutoff) asked
  LEFT JOIN (
    SELECT true AS known, last_used_at, source, used_until, created_at,
      coalesce(last_used_at, created_at) AS idle_since
    FROM workspace_activity WHERE workspace_id = $1
  ) found ON true`

async function recheck(
  connection: Connection,
  workspaceId: string,
  idleForSeconds: number,
): Promise<Recheck> {
  const statement: Statement<{ found: string }> = {
    sql: RECHECK,
    parameters: [workspaceId, idleForSeconds],
  }
  const { rows } = await execute(connection, statement)
  const found: Omit<Recheck, keyof Completeness> & { cutoff: string } = JSON.parse(rows[0]!.found)
  return { ...found, ...(await completeness(connection, found.cutoff)) }
}

/** It is asked after the use: marks may be lost between the two. Another statement, because it is of no shard. */
async function completeness(connection: Connection, cutoff: string): Promise<Completeness> {
  const { rows } = await execute<{ found: string }>(connection, {
    sql: `SELECT json_build_object(
        'complete', since <= $1::timestamptz, 'completeSince', ${finite('since')}
      )::text AS found
      FROM (SELECT usage_complete_since() AS since) complete`,
    parameters: [cutoff],
  })
  return JSON.parse(rows[0]!.found)
}

/**
 * Calls `stop`, and waits for it no longer than it may take.
 *
 * @throws {StopTimeoutError} If it takes longer.
 * @throws What it throws.
 */
async function callStop(
  connection: Queryable | Connection,
  workspaceId: string,
  found: Recheck,
  { stop, stopTimeoutSeconds }: StopRules,
): Promise<void> {
  const ending = new AbortController()
  const late = Promise.withResolvers<never>()
  const giveUp = () => {
    const error = new StopTimeoutError(workspaceId, stopTimeoutSeconds)
    ending.abort(error)
    late.reject(error)
  }
  const timer = setTimeout(giveUp, stopTimeoutSeconds * 1_000)
  let isEnded = false
  const client: Queryable = {
    query: async (text, values) => {
      // Somebody else may use the connection by now.
      if (isEnded) throw new StopEndedError(workspaceId)
      return await (connection as Queryable).query(text, values)
    },
  }
  const facts = {
    lastUsedAt: found.lastUsedAt === null ? null : parseIsoText(found.lastUsedAt),
    source: found.source,
    createdAt: found.createdAt === null ? null : parseIsoText(found.createdAt),
    idleSeconds: found.idleSeconds,
    signal: ending.signal,
  }
  try {
    await Promise.race([(async () => await stop(client, workspaceId, facts))(), late.promise])
  } finally {
    isEnded = true
    clearTimeout(timer)
  }
}
