import { sql } from 'kysely'
import { executeSql } from '../database/compile.ts'
import type { Connection } from '../database/connection.ts'
import { sqlState } from '../database/sql-state.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { idSql } from './id-sql.ts'
import { REFUSED_USAGE, WORKSPACES } from './tables.ts'

/** A workspace whose update PostgreSQL refuses. Its marks are set aside, and it is tried again. */
export interface Refusal {
  workspaceId: string
  /** The SQLSTATE of the last error. Null if a trigger cancelled the update without one. */
  sqlState: string | null
  /** PostgreSQL's message of the last error. */
  message: string
  /** When it was refused first. */
  since: Date
  /** How often it was tried since. */
  attempts: number
  /** When it is tried again. */
  nextAttemptAt: Date
}

/** The pauses between attempts, in seconds: the first, doubled from attempt to attempt, and the longest. */
const FIRST_PAUSE_SECONDS = 10
const LONGEST_PAUSE_SECONDS = 3_600

const LONGEST_MESSAGE = 500

/** Why a workspace is refused. */
export interface Reason {
  sqlState: string | null
  message: string
}

/** The reason if a trigger returns NULL for the row, or takes the new value back. There is no error then. */
export const CANCELLED: Reason = {
  sqlState: null,
  message: 'a trigger on workspaces cancelled the update of last_used_at',
}

/** The reason in an error of PostgreSQL. */
export function reasonOf(error: unknown): Reason {
  const raised = error instanceof Error && error.cause instanceof Error ? error.cause : (error as Error)
  return { sqlState: sqlState(error) ?? null, message: raised.message.slice(0, LONGEST_MESSAGE) }
}

/**
 * Classes of SQLSTATE that tell of the server, the connection or the transaction. Whatever workspace is tried, they
 * would come again, or never.
 */
const EVERYBODYS = ['08', '0A', '25', '2D', '3D', '3F', '40', '53', '57', '58', 'F0']

/**
 * Whether an error may be due to one workspace: a constraint, a trigger, a policy of the host. An error that concerns
 * everybody is not: a privilege is missing, the disk is full, the server is read-only.
 */
export function mayConcernOneWorkspace(error: unknown): boolean {
  const state = sqlState(error)
  if (state === undefined) return false
  if (isLockTimeout(error)) return true
  // The role lacks a privilege, be it in a trigger of the host. It lacks it for each workspace.
  if (state === '42501' || EVERYBODYS.some(start => state.startsWith(start))) return false
  // Such an error is due to our statement or to the table (55000: published without a replica identity), unless it came
  // from within a function of the host.
  return !(state.startsWith('42') || state === '55000') || hasContext(error)
}

/** Whether a lock was not free within the flush's lock_timeout. */
export function isLockTimeout(error: unknown): boolean {
  return sqlState(error) === '55P03'
}

/** Whether PostgreSQL tells in which function the error was raised. */
function hasContext(error: unknown): boolean {
  const raised = error instanceof Error && error.cause instanceof Error ? error.cause : error
  return typeof raised === 'object' && raised !== null && 'where' in raised && Boolean(raised.where)
}

/**
 * Records that workspaces are refused. The next attempt is after a pause. It doubles with each attempt, from 10 seconds
 * to an hour. A workspace that somebody else holds is left out, because another flush may be recording it.
 */
export async function recordRefusals(
  connection: Connection,
  workspaceIds: readonly string[],
  { sqlState, message }: Reason,
  idType: WorkspaceIdType,
): Promise<Refusal[]> {
  const pause = sql`make_interval(secs => least(
    ${FIRST_PAUSE_SECONDS}::float8 * 2 ^ least(refused.attempts, 20), ${LONGEST_PAUSE_SECONDS}))`
  const { column, many } = idSql(idType)
  const { rows } = await executeSql(
    connection,
    sql<{ refusal: string }>`
      WITH locked AS MATERIALIZED (
        SELECT ${column(sql`id`)} AS id FROM ${WORKSPACES} WHERE id = ANY (${many([...workspaceIds])})
        FOR NO KEY UPDATE SKIP LOCKED
      )
      INSERT INTO ${REFUSED_USAGE} AS refused (workspace_id, since, attempts, sqlstate, message, next_attempt_at)
      SELECT id, clock_timestamp(), 1, ${sqlState}::text, ${message}::text,
        clock_timestamp() + make_interval(secs => ${FIRST_PAUSE_SECONDS})
      FROM locked
      ON CONFLICT (workspace_id) DO UPDATE SET
        attempts = refused.attempts + 1, sqlstate = excluded.sqlstate, message = excluded.message,
        next_attempt_at = clock_timestamp() + ${pause}
      RETURNING json_build_object(
        'workspaceId', workspace_id::text, 'sqlState', sqlstate, 'message', message, 'attempts', attempts,
        'since', ${sql.raw(asIsoText('since'))}, 'nextAttemptAt', ${sql.raw(asIsoText('next_attempt_at'))}
      )::text AS refusal`,
  )
  return rows.map(({ refusal }) => {
    const { since, nextAttemptAt, ...rest } = JSON.parse(refusal)
    return { ...rest, since: parseIsoText(since), nextAttemptAt: parseIsoText(nextAttemptAt) }
  })
}

/** Forgets that workspaces are refused. */
export async function forgetRefusals(
  connection: Connection,
  workspaceIds: readonly string[],
  idType: WorkspaceIdType,
): Promise<void> {
  await executeSql(
    connection,
    sql`
      DELETE FROM ${REFUSED_USAGE} WHERE workspace_id = ANY (${idSql(idType).many([...workspaceIds])})
      RETURNING attempts`,
  )
}
