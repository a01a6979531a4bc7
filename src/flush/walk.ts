/*
 * Which part of the marks a flush walks over.
 *
 * A flushed mark is a deleted row. While any transaction is open, VACUUM can't remove what was deleted after its start,
 * and an index scan visits each of these rows. So a flush notes in which ranges of the key there may still be marks, and
 * the next flush walks over these ranges only.
 *
 * Why no mark is missed. A flush first reads the clock, then looks who holds ROW EXCLUSIVE on pending_usage, and then
 * takes its snapshot. A mark locks the table before it reads the clock for its period, and holds the lock until its
 * transaction has ended. So a mark with an end before that first moment is in the snapshot, or its transaction is among
 * those that the flush saw. They are noted: each with the time of the look before, when it did not have the lock. Its
 * marks have later ends. Once it has ended, everything after that time is walked over again.
 *
 * A mark may get an old end for other reasons: the clock of the server was set back, or the owner of the table stored it.
 * So once in a while everything is walked over, at a cost of at most half a percent of the time. With few dead rows that
 * is always so, and nothing is noted.
 */

/**
 * A place in the order of the primary key: the end of a period as text, a workspace, a source. Without a workspace it is
 * before all of that period.
 */
export type Place = readonly [periodEnd: string, workspaceId: string | null, source: string]

/** Marks from one place to another, both included. Without `until`, to the end. */
export interface KeyRange {
  from: Place
  until: Place | null
}

/** A transaction that may have stored marks which nobody sees yet. */
interface OpenMarker {
  /** Its `virtualtransaction` in `pg_locks`. */
  transaction: string
  /** When a flush saw it first. */
  since: string
  /** Its marks have later ends. Null: they may have any. */
  after: string | null
}

/** What a flush notes on the witness. All times are text by `asIsoText`, so they can be compared. */
export interface Unsettled {
  /** When that flush looked. */
  at: string
  /** The start of the server. Names of transactions are unique only since then. */
  server: string
  /** When everything was walked over, the last time. */
  walkedAt: string
  /** Where there may be marks, in ascending order. */
  ranges: readonly KeyRange[]
  open: readonly OpenMarker[]
}

/** What a flush sees before it walks. */
export interface Look {
  /** A moment before the look, so much earlier that a small step of the server's clock does no harm. */
  at: string
  server: string
  /** Dead rows of `pending_usage`, as the server's statistics have it. */
  dead: number
  /** The transactions of others that hold the lock of a mark. */
  markers: readonly { transaction: string; prepared: boolean }[]
  noted: Unsettled | null
}

/** Where a batch ended. */
export interface Edge {
  place: Place
  /**
   * In which of the ranges that is. The database tells, because ids and sources are in an order that only it knows: that
   * of a collation, say.
   */
  range: number
}

/** What a flush did with the ranges of a plan. */
export interface Walked {
  oldestFirst: boolean
  /** The last mark in the order of the flush, if the batch was full. Null: it reached the end. */
  edge: Edge | null
}

/** All marks. */
export const EVERYTHING: KeyRange = { from: ['-infinity', null, ''], until: null }

/** The most ranges that are noted. Each one is a part of the flush statement. */
const MOST_RANGES = 8

/** A transaction that has the lock for longer may hold marks of any period. This costs one walk when it ends. */
const LONG_MS = 2_000

/** How long to wait between two walks over everything, for each dead row. Walking over one costs about 0.4 µs. */
const PAUSE_MS_PER_DEAD_ROW = 0.08

/** With more dead rows, a walk over all of them might exceed the time of a flush. */
const MOST_DEAD_TO_WALK = 20_000_000

/** The ranges that a flush walks over, and how to note what it has found. */
export class Walk {
  /** In ascending order. */
  readonly ranges: readonly KeyRange[]
  readonly #look: Look
  readonly #open: OpenMarker[]
  readonly #walkedAt: string

  constructor(look: Look) {
    this.#look = look
    const noted = usable(look)
    const holders = new Set(look.markers.map(({ transaction }) => transaction))
    const open = noted?.open ?? []
    const ended = open.filter(({ transaction }) => !holders.has(transaction))
    const everything = noted === null || isWalkDue(look, noted)
    this.ranges = everything ? [EVERYTHING] : withStoredLate(noted.ranges, ended)
    this.#walkedAt = everything ? look.at : noted.walkedAt
    const known = new Set(open.map(({ transaction }) => transaction))
    this.#open = [
      ...open.filter(({ transaction }) => holders.has(transaction)).map(marker => aged(marker, look.at)),
      ...look.markers
        .filter(({ transaction }) => !known.has(transaction))
        // PREPARE TRANSACTION gives an old transaction a new name.
        .map(({ transaction, prepared }) => ({
          transaction,
          since: look.at,
          after: prepared ? null : (noted?.at ?? null),
        })),
    ]
  }

  /** What to note, if every mark was taken that the flush could see in the ranges it has walked over. */
  noteAfter({ oldestFirst, edge }: Walked): Unsettled {
    const { at, server } = this.#look
    const ranges = edge === null ? [after(at)] : oldestFirst ? this.#above(edge) : this.#below(edge)
    return { at, server, walkedAt: this.#walkedAt, ranges: fewer(ranges), open: this.#open }
  }

  #above({ place, range }: Edge): KeyRange[] {
    return [{ ...this.ranges[range]!, from: place }, ...this.ranges.slice(range + 1)]
  }

  #below({ place, range }: Edge): KeyRange[] {
    const below = this.ranges.slice(0, range)
    const { from } = this.ranges[range]!
    const newest = after(this.#look.at)
    if (isEarlier(place[0], newest.from[0])) return [...below, { from, until: place }, newest]
    // The batch ended so near the present that there is nothing in between.
    return [...below, { from, until: null }]
  }
}

/** After a restart of the server, or a step of its clock, the note is of no use. */
function usable({ noted, server, at }: Look): Unsettled | null {
  return noted !== null && noted.server === server && noted.at <= at ? noted : null
}

function isWalkDue({ at, dead }: Look, { walkedAt }: Unsettled): boolean {
  return dead <= MOST_DEAD_TO_WALK && msBetween(walkedAt, at) >= dead * PAUSE_MS_PER_DEAD_ROW
}

/** Adds what transactions that have ended may have stored. */
function withStoredLate(ranges: readonly KeyRange[], ended: readonly OpenMarker[]): readonly KeyRange[] {
  if (ended.length === 0) return ranges
  if (ended.some(marker => marker.after === null)) return [EVERYTHING]
  const time = ended.map(marker => marker.after!).toSorted()[0]!
  const earlier = ranges.filter(({ from }) => isEarlier(from[0], time))
  const last = earlier.at(-1)
  if (last && (last.until === null || !isEarlier(last.until[0], time))) {
    return [...earlier.slice(0, -1), { from: last.from, until: null }]
  }
  return [...earlier, after(time)]
}

function aged(marker: OpenMarker, at: string): OpenMarker {
  return msBetween(marker.since, at) > LONG_MS ? { ...marker, after: null } : marker
}

/** All marks whose periods end at this time or later. */
function after(time: string): KeyRange {
  return { from: [time, null, ''], until: null }
}

/** Joins the ranges that are next to each other, from the oldest on. */
function fewer(ranges: readonly KeyRange[]): KeyRange[] {
  const [first, ...others] = ranges
  if (first === undefined || ranges.length <= MOST_RANGES) return [...ranges]
  const merged = others.slice(0, ranges.length - MOST_RANGES)
  return [{ from: first.from, until: merged.at(-1)!.until }, ...others.slice(merged.length)]
}

/** Whether a period ends before another. */
function isEarlier(end: string, other: string): boolean {
  return end !== other && (end === '-infinity' || (other !== '-infinity' && end < other))
}

function msBetween(from: string, to: string): number {
  return Date.parse(to) - Date.parse(from)
}
