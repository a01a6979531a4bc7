import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { asHexText, isoTextOf, parseHexText } from '../database/timestamp.ts'
import { executeWithoutJit } from '../database/without-jit.ts'
import { WORKSPACE_ID_TYPE } from '../database/workspace-id-type.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { DEFAULT_IDLE_PAGE_SIZE, type IdleOptions } from './idle-options.ts'
import {
  type IdleRow,
  type IdleWorkspace,
  idleLine,
  idleWorkspaceOf,
  type Listing,
  parseIdleLine,
} from './idle-row.ts'
import { IDLE_TIMES } from './idle-times.ts'

/**
 * The rows of the first page. PostgreSQL finds so few without sorting all, and the reader has something to read. The
 * next pages are large, because each reads all workspaces once.
 */
const FIRST_PAGE_SIZE = 1_000

/** Reads the list of `idleWorkspaces`. The options are checked. */
export async function* readIdlePages(
  connection: Connection,
  options: IdleOptions,
): AsyncGenerator<Iterable<IdleWorkspace>> {
  const { idleForSeconds, withinSeconds = 0, pageSize = DEFAULT_IDLE_PAGE_SIZE } = options
  const { start, idType } = await begin(connection)
  const listing = { start, idleForSeconds }
  const unlisted = withinSeconds < idleForSeconds ? everyLine : linesOfUnlisted(start)
  let left = options.limit ?? Number.POSITIVE_INFINITY
  let last: IdleRow | null = null
  let size = Math.min(FIRST_PAGE_SIZE, pageSize)
  let full = true
  while (full && left > 0) {
    const lines = await readLines(connection, idlePage({ start, idType }, options, last, size))
    full = lines.length === size
    if (full) last = parseIdleLine(lines.at(-1)!)
    const news = unlisted(lines).slice(0, left)
    left -= news.length
    if (news.length > 0) yield workspacesOf(news, listing)
    size = Math.min(pageSize, left)
  }
}

function* workspacesOf(lines: readonly string[], listing: Listing): Generator<IdleWorkspace> {
  for (const line of lines) yield idleWorkspaceOf(parseIdleLine(line), listing)
}

function everyLine(lines: string[]): string[] {
  return lines
}

/**
 * A workspace that is used while it is listed goes from where it was to the end of the list. So who is at the end is
 * listed only if the list did not have it.
 */
function linesOfUnlisted(start: number): (lines: string[]) => string[] {
  const listed = new Set<string>()
  return lines =>
    lines.filter(line => {
      const { workspaceId, since } = parseIdleLine(line)
      if (since !== null && since >= start && listed.has(workspaceId)) return false
      listed.add(workspaceId)
      return true
    })
}

/**
 * A page as one value. As rows it would take ten times the memory, and parsing would take longer than the query. There
 * is a line for each workspace: {@link idleLine}.
 */
interface PageRow {
  /** Null if no workspace is left. */
  page: string | null
}

/**
 * The page behind a row. Nothing needs an index: `last_used_at` should not have one. Texts are sorted as bytes, because
 * the view's may come of two collations, and have none then. Which it is does not matter.
 */
function idlePage(
  { start, idType }: Beginning,
  { idleForSeconds, withinSeconds = 0, neverUsed = true }: IdleOptions,
  last: IdleRow | null,
  size: number,
): RawBuilder<PageRow> {
  const due = sql`since <= ${isoTextOf(start)}::timestamptz
    + make_interval(secs => ${withinSeconds}) - make_interval(secs => ${idleForSeconds})`
  const wanted = neverUsed
    ? sql`(${due} OR since = 'infinity')`
    : sql`${due} AND coalesce(last_used_at, used_until) IS NOT NULL`
  const id = sql.raw(idType === 'text' ? 'workspace_id::text COLLATE "C"' : 'workspace_id')
  const behind =
    last === null
      ? sql``
      : sql`AND (since, id) > (${last.since === null ? 'infinity' : isoTextOf(last.since)}::timestamptz, ${last.workspaceId})`
  return sql<PageRow>`
    SELECT string_agg(${sql.raw(idleLine(idType))}, E'\n' ORDER BY since, id) AS page
    FROM (
      SELECT * FROM (SELECT times.*, ${id} AS id FROM (${sql.raw(IDLE_TIMES)}) times) known
      WHERE ${wanted} ${behind}
      ORDER BY since, id LIMIT ${size}
    ) idle`
}

async function readLines(connection: Connection, statement: RawBuilder<PageRow>): Promise<string[]> {
  const { rows } = await executeWithoutJit(connection, compile(statement))
  return rows[0]?.page?.split('\n') ?? []
}

interface Beginning {
  /** Microseconds since 1970, by the database's clock. */
  start: number
  idType: WorkspaceIdType
}

async function begin(connection: Connection): Promise<Beginning> {
  const statement = sql<{ start: string; type: WorkspaceIdType }>`
    SELECT ${sql.raw(asHexText('statement_timestamp()'))} AS start, ${sql.raw(WORKSPACE_ID_TYPE)}::text AS type`
  const { rows } = await execute(connection, compile(statement))
  const { start, type } = rows[0]!
  return { start: parseHexText(start), idType: type }
}
