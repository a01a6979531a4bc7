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
  type IdleTimes,
  idleLine,
  idleTimesOf,
  type Listing,
  parseIdleLine,
} from './idle-row.ts'
import { IDLE_TIMES } from './idle-times.ts'

/**
 * The rows of the first page. PostgreSQL finds so few without sorting all, and the reader has something to read. The
 * next pages are large, because each reads all workspaces once.
 */
const FIRST_PAGE_SIZE = 1_000

/** Reads the list of `idleWorkspaces`. The options are checked. Each page can be iterated once. */
export async function* readIdlePages(
  connection: Connection,
  options: IdleOptions,
): AsyncGenerator<Iterable<IdleTimes>> {
  const { idleForSeconds, withinSeconds = 0, pageSize = DEFAULT_IDLE_PAGE_SIZE } = options
  const { start, idType } = await begin(connection)
  const listing = { start, idleForSeconds }
  const unlisted = withinSeconds < idleForSeconds ? everyLine : linesOfUnlisted(start)
  let left = options.limit ?? Number.POSITIVE_INFINITY
  let last: IdleRow | null = null
  let size = Math.min(FIRST_PAGE_SIZE, pageSize, left)
  let full = true
  while (full && left > 0) {
    const page: PageRow = await readPage(connection, idlePage({ start, idType }, options, last, size))
    if (page.page === null) return
    full = Number(page.lines) === size
    if (full) last = parseIdleLine(page.page.slice(page.page.lastIndexOf('\n') + 1))
    const news = unlisted(page)
    left -= news.count
    if (news.count > 0) yield timesOf(news.lines, listing)
    size = Math.min(pageSize, left)
  }
}

function* timesOf(lines: Iterable<string>, listing: Listing): Generator<IdleTimes> {
  for (const line of lines) yield idleTimesOf(parseIdleLine(line), listing)
}

/** Lines of a page. */
interface Lines {
  count: number
  lines: Iterable<string>
}

function everyLine({ page, lines }: PageRow): Lines {
  return { count: Number(lines), lines: linesOf(page!) }
}

/** One line after the other. An array of all would be there as long as the page, and takes longer to collect. */
function* linesOf(page: string): Generator<string> {
  let from = 0
  for (let end = page.indexOf('\n'); end !== -1; end = page.indexOf('\n', from)) {
    yield page.slice(from, end)
    from = end + 1
  }
  yield page.slice(from)
}

/**
 * A workspace that is used while it is listed goes from where it was to the end of the list. So who is at the end is
 * listed only if the list did not have it.
 */
function linesOfUnlisted(start: number): (page: PageRow) => Lines {
  const listed = new Set<string>()
  return ({ page }) => {
    const lines = page!.split('\n').filter(line => {
      const { workspaceId, since } = parseIdleLine(line)
      if (since !== null && since >= start && listed.has(workspaceId)) return false
      listed.add(workspaceId)
      return true
    })
    return { count: lines.length, lines }
  }
}

/**
 * A page as one value. As rows it would take ten times the memory, and parsing would take longer than the query. There
 * is a line for each workspace: {@link idleLine}.
 */
interface PageRow {
  /** Null if no workspace is left. */
  page: string | null
  /** How many lines it has. */
  lines: string
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
    SELECT string_agg(${sql.raw(idleLine(idType))}, E'\n' ORDER BY since, id) AS page, count(*)::text AS lines
    FROM (
      SELECT * FROM (SELECT times.*, ${id} AS id FROM (${sql.raw(IDLE_TIMES)}) times) known
      WHERE ${wanted} ${behind}
      ORDER BY since, id LIMIT ${size}
    ) idle`
}

async function readPage(connection: Connection, statement: RawBuilder<PageRow>): Promise<PageRow> {
  const { rows } = await executeWithoutJit(connection, compile(statement))
  return rows[0]!
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
