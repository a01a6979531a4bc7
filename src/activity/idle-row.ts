import { asHexText, dateOfMicroseconds, HEX_TEXT_LENGTH, parseHexText } from '../database/timestamp.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'

/** A workspace that was idle, or will be due within the asked time, when its page was read. */
export interface IdleWorkspace {
  workspaceId: string
  /** The last use. Null if the workspace was never used. A time before 1970-01-02 and an infinity count as never. */
  lastUsedAt: Date | null
  /** When it was created. Null if the host's table does not tell, or has one of the times that count as never. */
  createdAt: Date | null
  /** The time ahead until which it is in use without marks. Null if there is none. */
  usedUntil: Date | null
  /**
   * Since when it is idle: its last use, or its creation if it was never used. Ahead if it is in use until then. Null
   * if nothing of this is known.
   */
  idleSince: Date | null
  /** Seconds from `idleSince` to the start of the listing, by the database's clock. 0 while it is in use. */
  idleSeconds: number | null
  /** When it will have been idle for the asked time, if it is not used until then. Null if `idleSince` is. */
  dueAt: Date | null
  /** Seconds from the start of the listing to `dueAt`. 0 or negative: it is due. Null if `idleSince` is. */
  leftSeconds: number | null
}

/** What the times of a row are seen from. */
export interface Listing {
  /** Its start in microseconds since 1970, by the database's clock. */
  start: number
  idleForSeconds: number
}

/**
 * SQL of a row of a page as a line of text. It runs a million times, so it is as short as can be. Most rows have a last
 * use and nothing else, and are that time and the id. Others begin with a comma: the last use, the creation and the time
 * until which it is used, each with a comma behind it, then the id. The id is the rest, so it may have commas. Line
 * breaks are escaped in ids of text.
 */
export function idleLine(idType: WorkspaceIdType): string {
  const text = idType === 'text' ? String.raw`replace(replace(id, E'\\', E'\\b'), E'\n', E'\\n')` : 'id'
  const [used, created, until] = ['last_used_at', 'created_at', 'used_until'].map(asHexText)
  return `CASE
    WHEN created_at IS NULL AND used_until IS NULL AND last_used_at IS NOT NULL THEN ${used} || ${text}
    ELSE concat(',', ${used}, ',', ${created}, ',', ${until}, ',', ${text})
  END`
}

/** Reads an id as it stands in a line. No other type has a backslash. */
function parseId(text: string): string {
  return text.includes('\\') ? text.replaceAll('\\n', '\n').replaceAll('\\b', '\\') : text
}

/** A row as it was read. Times are microseconds since 1970. */
export interface IdleRow {
  workspaceId: string
  lastUsed: number | null
  created: number | null
  usedUntil: number | null
  /** The time by which the list is sorted. Null comes last. */
  since: number | null
}

/** Reads what {@link idleLine} wrote. */
export function parseIdleLine(line: string): IdleRow {
  if (!line.startsWith(',')) {
    const lastUsed = parseHexText(line.slice(0, HEX_TEXT_LENGTH))
    const workspaceId = parseId(line.slice(HEX_TEXT_LENGTH))
    return { workspaceId, lastUsed, created: null, usedUntil: null, since: lastUsed }
  }
  let at = 1
  const next = () => {
    const end = line.indexOf(',', at)
    const time = end === at ? null : parseHexText(line.slice(at, end))
    at = end + 1
    return time
  }
  const [lastUsed, created, usedUntil] = [next(), next(), next()] as const
  const since = usedUntil === null ? (lastUsed ?? created) : Math.max(usedUntil, lastUsed ?? usedUntil)
  return { workspaceId: parseId(line.slice(at)), lastUsed, created, usedUntil, since }
}

export function idleWorkspaceOf(row: IdleRow, { start, idleForSeconds }: Listing): IdleWorkspace {
  const { workspaceId, since } = row
  const idleSeconds = since === null ? null : Math.floor((start - since) / 1_000) / 1_000
  return {
    workspaceId,
    lastUsedAt: dateOrNull(row.lastUsed),
    createdAt: dateOrNull(row.created),
    usedUntil: dateOrNull(row.usedUntil),
    idleSince: dateOrNull(since),
    idleSeconds: idleSeconds === null ? null : Math.max(0, idleSeconds),
    dueAt: dateOrNull(since === null ? null : since + idleForSeconds * 1_000_000),
    leftSeconds: idleSeconds === null ? null : Math.round((idleForSeconds - idleSeconds) * 1_000) / 1_000,
  }
}

function dateOrNull(microseconds: number | null): Date | null {
  return microseconds === null ? null : dateOfMicroseconds(microseconds)
}
