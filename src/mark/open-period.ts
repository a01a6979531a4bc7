import { MAX_TEXT_ID_LENGTH, type WorkspaceIdType } from '../workspace-id.ts'
import type { PeriodAnswer } from './batch.ts'
import type { MarkCounts } from './mark-counts.ts'
import { LONG_AGO, later, type Moment, msUntil, now } from './moment.ts'

/** A statement that is sent. */
export interface Sent {
  /** When it was sent, or earlier. */
  readonly at: Moment
  /** Its place in the order in which statements were sent. */
  readonly number: number
}

const CLOCK_CHECK_MS = 250
const MAX_UNPROVEN = 256
const MAX_REMEMBERED = 1_000_000
const FOUND_PLACES = 2 ** 16

/** How long the ids of a type may be. A text of 255 characters may have twice as many units. */
const LENGTHS: Record<WorkspaceIdType, readonly [shortest: number, longest: number]> = {
  uuid: [36, 36],
  bigint: [1, 20],
  integer: [1, 11],
  text: [1, 2 * MAX_TEXT_ID_LENGTH],
}

/**
 * The ids that are stored in the open period. They stay here until the period ends.
 *
 * After that end, no mark may be answered from here. But to read the clock costs more than all the rest of a mark. So a
 * mark is answered first and proven later. The ids of the last answers are kept until the clock is read. If the period
 * is still open then, it was open at each of these marks. If it is not, these ids are marked again.
 *
 * The clock is read four times a second and at every 256th mark, and near the end of the period at every mark. So a
 * mark that was in time is made again only if the event loop was blocked at the end of the period. Two clocks are read,
 * because one stands still while the machine sleeps.
 *
 * Several statements may be under way, and their answers come in any order. So an answer may be about an earlier period
 * than a later statement's, or be older than a crash that was noticed meanwhile.
 */
export class OpenPeriod {
  readonly #shortest: number
  readonly #longest: number
  readonly #markAgain: (id: string) => void
  readonly #counts: MarkCounts
  readonly #ids = new Set<string>()
  /** Which characters of a string give its place: see {@link offsetOf}. It changes only while nothing is stored. */
  #offset = 0
  /**
   * Strings that callers passed for stored ids. A few characters of a string give its place. A look-up here takes half
   * the time of a Set, because a Set hashes all 36 characters of a new string. The strings are few, because each
   * may be a slice that keeps a whole request in memory.
   */
  readonly #found: string[] = new Array(FOUND_PLACES).fill('')
  #endsAt = LONG_AGO
  /** The `periodEnd` of the ids. */
  #periodEnd: number | undefined
  /** The `server` of the ids. Undefined if no answer since the last loss tells it. */
  #server: string | undefined

  /** The statements that were sent so far. */
  #sent = 0
  /** Those of them that were sent before the last loss was noticed. The server may have lost what they stored. */
  #doubtful = 0
  /** Those of them that were sent before the last answer came that was trusted. */
  #sentBeforeAnswer = 0

  /** The ids of unproven answers, from the place `#first` downwards. The next free place is `#next`. */
  readonly #unproven: string[] = new Array(MAX_UNPROVEN).fill('')
  #first = 0
  #next = 0
  #clockCheck: NodeJS.Timeout | undefined

  /**
   * @param markAgain Called with the id of a mark that was answered from here after the period's end.
   * @param counts Where the marks are counted that were answered from here and are proven.
   */
  constructor(idType: WorkspaceIdType, markAgain: (id: string) => void, counts: MarkCounts) {
    ;[this.#shortest, this.#longest] = LENGTHS[idType]
    this.#markAgain = markAgain
    this.#counts = counts
  }

  /**
   * Returns true if the id is stored. A mark made now needs nothing more then. If it turns out that the period had
   * ended, the mark is made again.
   *
   * @param id A canonical id, or a spelling that was passed before. Returns false for anything else.
   */
  answer(id: string, spelling = id): boolean {
    const { length } = id
    if (length < this.#shortest || length > this.#longest) return false
    const place = placeOf(spelling, this.#offset)
    if (this.#found[place] !== spelling) {
      if (!this.#ids.has(id)) return false
      this.#found[place] = spelling
    }
    this.#unproven[this.#next] = id
    if (--this.#next < 0) this.settle()
    return true
  }

  /** Reads the clock. This proves all answers so far, or marks their ids again. */
  settle(): void {
    const remaining = msUntil(this.#endsAt)
    const from = this.#next + 1
    const to = this.#first + 1
    this.#first = remaining > 2 * CLOCK_CHECK_MS ? MAX_UNPROVEN - 1 : 0
    this.#next = this.#first
    if (remaining > 0) {
      this.#counts.deduplicated += to - from
      return
    }
    this.#end()
    for (const id of this.#unproven.slice(from, to)) this.#markAgain(id)
  }

  /** Forgets all ids. */
  forget(): void {
    this.settle()
    this.#clear()
  }

  /**
   * Forgets all ids, because the server may have lost them. It may also have lost what the statements under way have
   * stored, whenever their answers come.
   */
  lose(): void {
    this.settle()
    this.#end()
    this.#server = undefined
    this.#doubtful = this.#sent
  }

  /** How many statements were sent so far. */
  get sent(): number {
    return this.#sent
  }

  /** Records that a statement is sent now. */
  send(): Sent {
    return { at: now(), number: ++this.#sent }
  }

  /**
   * Records that a statement stored the ids. Returns true if this covers all marks of them until now. Returns false,
   * and remembers nothing, if their period has ended or the server may have lost them.
   *
   * The rest of the period is counted from when the statement was sent. So the period may seem to end too early, but
   * never too late.
   */
  learn(ids: Iterable<string>, sent: Sent, answer: PeriodAnswer | undefined): boolean {
    this.settle()
    if (!answer) {
      this.lose()
      return false
    }
    if (!this.#trusts(sent, answer.server) || !this.#isOpen(sent.at, answer)) return false
    if (this.#ids.size === 0) this.#offset = offsetOf(ids)
    for (const id of ids) if (this.#ids.size < MAX_REMEMBERED) this.#ids.add(id)
    this.settle()
    this.#checkClockLater()
    return true
  }

  /** Whether the server still has what the statement stored, as far as anybody can know. */
  #trusts({ number }: Sent, server: string): boolean {
    const isDoubtful = number <= this.#doubtful
    if (this.#server !== undefined && server !== this.#server) {
      // If it was sent before the other server answered, nobody knows which of them is the later one.
      if (isDoubtful || number <= this.#sentBeforeAnswer) {
        this.lose()
        return false
      }
      this.#end()
    }
    if (isDoubtful) return false
    this.#server = server
    this.#sentBeforeAnswer = this.#sent
    return true
  }

  /** Whether the period of an answer is open. If so, it becomes the period of the ids. */
  #isOpen(sentAt: Moment, { remainingMs, periodEnd }: PeriodAnswer): boolean {
    const endsAt = later(sentAt, remainingMs)
    if (periodEnd === this.#periodEnd) {
      // An answer that was faster tells the end more exactly.
      if (!(msUntil(endsAt) <= msUntil(this.#endsAt))) this.#endsAt = endsAt
      return msUntil(this.#endsAt) > 0
    }
    const isOpen = msUntil(endsAt) > 0
    // An older answer tells nothing of the period that is open.
    const isLater = this.#periodEnd === undefined || !(periodEnd < this.#periodEnd)
    if (isOpen || isLater) {
      this.#end()
      this.#periodEnd = periodEnd
      this.#endsAt = endsAt
    }
    return isOpen
  }

  #checkClockLater(): void {
    this.#clockCheck ??= setTimeout(() => {
      this.#clockCheck = undefined
      this.settle()
      if (this.#ids.size > 0) this.#checkClockLater()
    }, CLOCK_CHECK_MS).unref()
  }

  #end(): void {
    this.#endsAt = LONG_AGO
    this.#clear()
  }

  #clear(): void {
    if (this.#ids.size === 0) return
    this.#ids.clear()
    this.#found.fill('')
  }
}

/** A number below FOUND_PLACES, from the four characters of an id that end `offset` before its end. */
function placeOf(id: string, offset: number): number {
  const last = id.length - 1 - offset
  if (last < 3) return placeOfShort(id)
  const three = (id.charCodeAt(last) * 31 + id.charCodeAt(last - 1)) * 31 + id.charCodeAt(last - 2)
  return (three * 31 + id.charCodeAt(last - 3)) & (FOUND_PLACES - 1)
}

function placeOfShort(id: string): number {
  let place = 0
  for (let i = 0; i < id.length; i++) place = place * 31 + id.charCodeAt(i)
  return place & (FOUND_PLACES - 1)
}

/**
 * Where ids differ. The last characters of a UUID are random in all versions that are in use, and those of a number count
 * it. Texts may all end alike. Then the first of these offsets is taken that tells most of a few ids apart.
 */
function offsetOf(ids: Iterable<string>): number {
  const some: string[] = []
  for (const id of ids) if (some.push(id) === SAMPLE) break
  const told = (offset: number) => new Set(some.map(id => placeOf(id, offset))).size
  const enough = OFFSETS.find(offset => told(offset) >= 0.9 * some.length)
  return enough ?? OFFSETS.toSorted((one, other) => told(other) - told(one))[0]!
}

const SAMPLE = 64
const OFFSETS = [0, 4, 8, 12, 16, 24, 32, 48]
