import { sql } from 'kysely'
import { type Connection, execute } from './connection.ts'
import { explainDatabaseError } from './database-error.ts'
import { InvalidOptionError } from './errors.ts'

/** Rows of a page unless said otherwise: about 15 MB, and 20 reads of the table for a million idle workspaces. */
export const DEFAULT_IDLE_PAGE_SIZE = 50_000

const MAX_IDLE_SECONDS = 100 * 366 * 86_400

/** Options of {@link idleWorkspaces}. */
export interface IdleOptions {
  /** Not used for at least this many seconds, by the database's clock: 1 to 3,162,240,000 (a century). */
  idleForSeconds: number
  /**
   * Whether workspaces that were never used are listed, behind all others. Default true. Nothing here knows when a
   * workspace was created: one that was never used may be a month old or a second.
   */
  neverUsed?: boolean
  /** Workspaces to list at most: an integer from 1. Default: all. */
  limit?: number
  /**
   * Rows in memory at once: an integer from 1 to 1,000,000. Each page reads all workspaces once, so smaller pages cost
   * time. Default {@link DEFAULT_IDLE_PAGE_SIZE}.
   */
  pageSize?: number
}

/** A workspace that was idle when its page was read. */
export interface IdleWorkspace {
  workspaceId: string
  /** Last use; null: never used. */
  lastUsedAt: Date | null
  /** Seconds from that to the start of the listing, by the database's clock; null: never used. */
  idleSeconds: number | null
}

/**
 * Lists workspaces that were not used for a time, pending use counted: the one idle for longest first, those never
 * used at the end. Streams: it holds a page of rows, and between two pages neither connection nor snapshot, so the
 * caller may take hours over them without holding up VACUUM. Each page sees the use up to its own moment, and no
 * workspace comes twice. What is listed may be in use again by the time the caller gets to it: before you stop or
 * delete it, look again under its row lock (`examples/stop-idle-workspaces.ts`).
 *
 * @param connection Where each page is read; the role needs what `workspace-usage grant --reader` gives.
 * @throws {InvalidOptionError} At once, if an option is out of its range; nothing is sent then.
 * @throws {NotMigratedError} While iterating, if the view does not exist.
 * @throws {StandbyError} While iterating, on a standby.
 */
export function idleWorkspaces(connection: Connection, options: IdleOptions): AsyncGenerator<IdleWorkspace> {
  const { idleForSeconds, neverUsed = true, limit = Number.POSITIVE_INFINITY } = options
  const { pageSize = DEFAULT_IDLE_PAGE_SIZE } = options
  if (!(idleForSeconds >= 1 && idleForSeconds <= MAX_IDLE_SECONDS)) {
    throw new InvalidOptionError('idleForSeconds', idleForSeconds, `1 to ${MAX_IDLE_SECONDS}`)
  }
  if (limit !== Number.POSITIVE_INFINITY && (!Number.isSafeInteger(limit) || limit < 1)) {
    throw new InvalidOptionError('limit', limit, 'an integer from 1')
  }
  if (!Number.isInteger(pageSize) || pageSize < 1 || pageSize > 1_000_000) {
    throw new InvalidOptionError('pageSize', pageSize, 'an integer from 1 to 1000000')
  }
  return listIdle(connection, idleForSeconds, neverUsed, limit, pageSize)
}

async function* listIdle(
  connection: Connection,
  idleForSeconds: number,
  neverUsed: boolean,
  limit: number,
  pageSize: number,
): AsyncGenerator<IdleWorkspace> {
  const start = await databaseEpoch(connection)
  let left = limit
  for (const pageAfter of neverUsed ? [pageOfUsed, pageOfNeverUsed] : [pageOfUsed]) {
    let last: IdleRow | null = null
    let full = true
    while (full && left > 0) {
      const size = Math.min(pageSize, left)
      const rows: IdleRow[] = await read(connection, pageAfter(start - idleForSeconds, last, size))
      for (const { workspace_id, last_used_at, used_epoch } of rows) {
        yield {
          workspaceId: workspace_id,
          lastUsedAt: last_used_at,
          idleSeconds: used_epoch === null ? null : start - used_epoch,
        }
      }
      full = rows.length === size
      left -= rows.length
      last = rows.at(-1) ?? null
    }
  }
}

interface IdleRow {
  workspace_id: string
  last_used_at: Date | null
  /** The time in seconds, exact to the microsecond, which a `Date` is not; the place where the next page goes on. */
  used_epoch: number | null
}

function pageOfUsed(cutoff: number, after: IdleRow | null, size: number) {
  const behind = after
    ? sql`AND (last_used_at, workspace_id) > (to_timestamp(${after.used_epoch}::float8), ${after.workspace_id}::uuid)`
    : sql``
  return sql<IdleRow>`
    SELECT workspace_id, last_used_at, extract(epoch FROM last_used_at)::float8 AS used_epoch
    FROM workspace_activity
    WHERE last_used_at <= to_timestamp(${cutoff}::float8) ${behind}
    ORDER BY last_used_at, workspace_id
    LIMIT ${size}`
}

function pageOfNeverUsed(_cutoff: number, after: IdleRow | null, size: number) {
  const behind = after ? sql`AND workspace_id > ${after.workspace_id}::uuid` : sql``
  return sql<IdleRow>`
    SELECT workspace_id, last_used_at, NULL::float8 AS used_epoch
    FROM workspace_activity
    WHERE last_used_at IS NULL ${behind}
    ORDER BY workspace_id
    LIMIT ${size}`
}

async function databaseEpoch(connection: Connection): Promise<number> {
  const [now] = await read(
    connection,
    sql<{ epoch: number }>`SELECT extract(epoch FROM statement_timestamp())::float8 AS epoch`,
  )
  return now!.epoch
}

async function read<Row>(connection: Connection, statement: ReturnType<typeof sql<Row>>): Promise<Row[]> {
  try {
    return (await execute(connection, statement)).rows
  } catch (error) {
    throw explainDatabaseError(error)
  }
}
