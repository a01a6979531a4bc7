import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import { checkOptions, integerWithin, numberWithin, type OptionRules, YES_OR_NO } from '../options.ts'

/** The default number of rows of a page. A page takes about 10 MB. A million idle workspaces are ten pages. */
export const DEFAULT_IDLE_PAGE_SIZE = 100_000

const MAX_IDLE_SECONDS = 100 * 366 * 86_400

/** Options of {@link idleWorkspaces}. */
export interface IdleOptions {
  /** List what was not used for at least this many seconds, by the database's clock: 1 to 3,162,240,000 (a century). */
  idleForSeconds: number
  /**
   * Whether to list workspaces that were never used, after all others. Default true. This package does not know when a
   * workspace was created. One that was never used may be a month old, or a second.
   */
  neverUsed?: boolean
  /** The most workspaces to list: an integer from 1. Default: all. */
  limit?: number
  /**
   * The rows of a page, which are in memory together: an integer from 1 to 1,000,000. Each page reads all workspaces
   * once, so smaller pages take more time. Default {@link DEFAULT_IDLE_PAGE_SIZE}.
   */
  pageSize?: number
}

/** What the options of {@link idleWorkspaces} may be. */
export const IDLE_OPTIONS: OptionRules<IdleOptions> = {
  idleForSeconds: numberWithin(1, MAX_IDLE_SECONDS, 'seconds'),
  neverUsed: YES_OR_NO,
  limit: {
    words: 'an integer from 1',
    accepts: value =>
      value === Number.POSITIVE_INFINITY || (Number.isSafeInteger(value) && (value as number) >= 1),
  },
  pageSize: integerWithin(1, 1_000_000),
}

/** A workspace that was idle when its page was read. */
export interface IdleWorkspace {
  workspaceId: string
  /** The last use. Null if the workspace was never used. A time before 1970-01-02 and an infinity count as never. */
  lastUsedAt: Date | null
  /** Seconds from the last use to the start of the listing, by the database's clock. Null if it was never used. */
  idleSeconds: number | null
}

/**
 * Lists workspaces that were not used for a time. Pending usage counts as use. The workspace that was idle for longest
 * comes first. Workspaces that were never used come last. No workspace comes twice.
 *
 * The list is streamed. One page of rows is in memory. Between two pages there is no open connection and no snapshot,
 * so a caller that takes hours does not hold up VACUUM. Each page sees the usage up to its own moment.
 *
 * A listed workspace may be in use again when the caller gets to it. Before you stop or delete it, look again while you
 * hold its row lock: {@link reapIdle} does. If marks were lost within that time, it may look idle and be
 * in use: {@link usageCompleteSince} tells.
 *
 * @param connection Where each page is read. The role needs what `workspace-usage grant --reader` gives.
 * @throws {InvalidOptionError} At once, if an option is out of its range; nothing is sent then.
 * @throws {UnknownOptionError} At once, if there is no such option; nothing is sent then.
 * @throws {NotMigratedError} While iterating, if the view does not exist.
 * @throws {RowSecurityError} While iterating, if row-level security may hide rows from the owner of the view.
 * @throws {StandbyError} While iterating, on a standby.
 */
export function idleWorkspaces(connection: Connection, options: IdleOptions): AsyncGenerator<IdleWorkspace> {
  checkOptions(options, IDLE_OPTIONS, ['idleForSeconds'])
  const { idleForSeconds, neverUsed = true, limit = Number.POSITIVE_INFINITY } = options
  const { pageSize = DEFAULT_IDLE_PAGE_SIZE } = options
  return listIdle(connection, idleForSeconds, neverUsed, limit, pageSize)
}

async function* listIdle(
  connection: Connection,
  idleForSeconds: number,
  neverUsed: boolean,
  limit: number,
  pageSize: number,
): AsyncGenerator<IdleWorkspace> {
  const [start] = await read(connection, sql<PageRow>`SELECT ${isoTime('statement_timestamp()')} AS page`)
  const cutoff = sql`${start}::timestamptz - make_interval(secs => ${idleForSeconds})`
  let left = limit
  for (const pageBehind of neverUsed ? [usedPage, neverUsedPage] : [usedPage]) {
    let last: string | null = null
    let full = true
    while (full && left > 0) {
      const size = Math.min(pageSize, left)
      const lines: string[] = await read(connection, pageBehind(cutoff, last, size))
      for (const line of lines) yield idleWorkspace(line, parseIsoText(start!))
      full = lines.length === size
      left -= lines.length
      last = lines.at(-1) ?? null
    }
  }
}

/**
 * A page as one value. As 100,000 rows it would take ten times the memory, and parsing would take longer than the
 * query.
 */
interface PageRow {
  /** One line per workspace: its id, then {@link asIsoText} of its last use if it was used. Null if none is left. */
  page: string | null
}

const UUID_LENGTH = 36

function idleWorkspace(line: string, start: Date): IdleWorkspace {
  const workspaceId = line.slice(0, UUID_LENGTH)
  const used = line.slice(UUID_LENGTH)
  if (used === '') return { workspaceId, lastUsedAt: null, idleSeconds: null }
  const lastUsedAt = parseIsoText(used)
  return { workspaceId, lastUsedAt, idleSeconds: (start.getTime() - lastUsedAt.getTime()) / 1_000 }
}

function usedPage(cutoff: RawBuilder<unknown>, last: string | null, size: number): RawBuilder<PageRow> {
  const behind =
    last === null
      ? sql``
      : sql`AND (last_used_at, workspace_id)
          > (${last.slice(UUID_LENGTH)}::timestamptz, ${last.slice(0, UUID_LENGTH)}::uuid)`
  return sql<PageRow>`
    SELECT string_agg(
      workspace_id || ${isoTime('last_used_at')}, E'\n' ORDER BY last_used_at, workspace_id
    ) AS page
    FROM (
      SELECT workspace_id, last_used_at FROM workspace_activity
      WHERE last_used_at <= ${cutoff} ${behind}
      ORDER BY last_used_at, workspace_id LIMIT ${size}
    ) idle`
}

function neverUsedPage(_cutoff: unknown, last: string | null, size: number): RawBuilder<PageRow> {
  const behind = last === null ? sql`` : sql`AND workspace_id > ${last}::uuid`
  return sql<PageRow>`
    SELECT string_agg(workspace_id::text, E'\n' ORDER BY workspace_id) AS page
    FROM (
      SELECT workspace_id FROM workspace_activity
      WHERE last_used_at IS NULL ${behind}
      ORDER BY workspace_id LIMIT ${size}
    ) idle`
}

const isoTime = (time: string) => sql.raw(asIsoText(time))

async function read(connection: Connection, statement: RawBuilder<PageRow>): Promise<string[]> {
  const { rows } = await execute(connection, compile(statement))
  return rows[0]?.page?.split('\n') ?? []
}
