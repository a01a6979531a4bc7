import { asHexText, HEX_TEXT_LENGTH, msOfMicroseconds, parseHexText } from '../database/timestamp.ts'
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

/**
 * A row as it is seen from the listing. Times are milliseconds since 1970. A list of a million lines is written from
 * this, because a `Date` for each time takes longer than its text.
 */
export interface IdleTimes {
  workspaceId: string
  lastUsedAt: number | null
  createdAt: number | null
  usedUntil: number | null
  idleSince: number | null
  /** Milliseconds, 0 while it is in use. */
  idleMs: number | null
  dueAt: number | null
  /** Milliseconds to `dueAt`. */
  leftMs: number | null
}

export function idleTimesOf(row: IdleRow, { start, idleForSeconds }: Listing): IdleTimes {
  const { workspaceId, since } = row
  const idleMs = since === null ? null : Math.floor((start - since) / 1_000)
  return {
    workspaceId,
    lastUsedAt: msOrNull(row.lastUsed),
    createdAt: msOrNull(row.created),
    usedUntil: msOrNull(row.usedUntil),
    idleSince: msOrNull(since),
    idleMs: idleMs === null ? null : Math.max(0, idleMs),
    dueAt: msOrNull(since === null ? null : since + idleForSeconds * 1_000_000),
    leftMs: idleMs === null ? null : Math.round(idleForSeconds * 1_000 - idleMs),
  }
}

export function idleWorkspaceOf(times: IdleTimes): IdleWorkspace {
  const { workspaceId, idleMs, leftMs } = times
  return {
    workspaceId,
    lastUsedAt: dateOrNull(times.lastUsedAt),
    createdAt: dateOrNull(times.createdAt),
    usedUntil: dateOrNull(times.usedUntil),
    idleSince: dateOrNull(times.idleSince),
    idleSeconds: idleMs === null ? null : idleMs / 1_000,
    dueAt: dateOrNull(times.dueAt),
    leftSeconds: leftMs === null ? null : leftMs / 1_000,
  }
}

function msOrNull(microseconds: number | null): number | null {
  return microseconds === null ? null : msOfMicroseconds(microseconds)
}

function dateOrNull(ms: number | null): Date | null {
  return ms === null ? null : new Date(ms)
}
