import type { PeriodAnswer } from './mark.ts'

const CLOCK_CHECK_MS = 250
const MAX_UNPROVEN = 256
const MAX_REMEMBERED = 1_000_000
const FOUND_PLACES = 2 ** 16

/**
 * The ids that are stored in the open period. They stay here until it ends.
 *
 * A mark must not be answered from here once the period is over. But a look at the clock costs more than all the rest
 * of a mark. So a mark is answered first and proven later. The last few answers are kept by id until the next look at
 * the clock. If the period is still open then, it was open at each of these marks. If not, they are marked again.
 *
 * The clock is looked at four times a second and at every 256th mark. Near the end of the period it is looked at with
 * every mark. So a mark that was in time is made again only if the event loop was blocked over the end.
 */
export class OpenPeriod {
  /** Marks that were answered from here and are proven. */
  covered = 0

  readonly #markAgain: (id: string) => void
  readonly #ids = new Set<string>()
  /**
   * Strings that were passed and name a stored id, each at a place that its last digits give. A look here takes half
   * the time of a Set, which hashes all 36 characters of a string that it has not seen. The strings are few, because
   * each may be a slice that keeps a whole request in memory.
   */
  readonly #found: string[] = new Array(FOUND_PLACES).fill('')
  /** When the period ends, by `performance.now()`. */
  #endsAt = Number.NEGATIVE_INFINITY
  /** The period's name in the last answer of the database. */
  #name: string | undefined

  /** Answers to prove, filled from the place `#first` downwards. The next free place is `#next`. */
  readonly #unproven: string[] = new Array(MAX_UNPROVEN).fill('')
  #first = 0
  #next = 0
  #clockCheck: NodeJS.Timeout | undefined

  /** @param markAgain Called with the id of a mark that was answered from here after the period's end. */
  constructor(markAgain: (id: string) => void) {
    this.#markAgain = markAgain
  }

  /**
   * Answers a mark that is made now, if its id is stored: returns true, and the mark needs nothing more. If this turns
   * out to be after the period's end, the mark is made again later.
   *
   * @param id Canonical, or a string that was passed as a spelling before. Returns false for anything else.
   */
  answer(id: string, spelling = id): boolean {
    if (typeof id !== 'string' || id.length !== 36) return false
    const place = placeOf(spelling)
    if (this.#found[place] !== spelling) {
      if (!this.#ids.has(id)) return false
      this.#found[place] = spelling
    }
    this.#unproven[this.#next] = id
    if (--this.#next < 0) this.settle()
    return true
  }

  /** Looks at the clock. This settles all marks that were answered so far. */
  settle(): void {
    const now = performance.now()
    const from = this.#next + 1
    const to = this.#first + 1
    this.#first = now < this.#endsAt - 2 * CLOCK_CHECK_MS ? MAX_UNPROVEN - 1 : 0
    this.#next = this.#first
    if (now < this.#endsAt) {
      this.covered += to - from
      return
    }
    this.#clear()
    for (const id of this.#unproven.slice(from, to)) this.#markAgain(id)
  }

  /** Forgets all ids, because the server may have lost them. */
  forget(): void {
    this.settle()
    this.#clear()
  }

  /**
   * Learns from the answer to a statement that the ids are stored. Returns true if this covers all marks of them until
   * now. Returns false, and learns nothing, if the period has ended since.
   *
   * @param sentAt When the statement was sent or earlier, by `performance.now()`. The period counts from then, so it
   *   can only seem to end too early.
   */
  learn(ids: Iterable<string>, sentAt: number, answer: PeriodAnswer | undefined): boolean {
    this.settle()
    const endsAt = sentAt + Number(answer?.remaining_ms)
    if (!(performance.now() < endsAt)) {
      this.#clear()
      return false
    }
    if (answer?.period !== this.#name) this.#clear()
    this.#name = answer?.period
    this.#endsAt = endsAt
    for (const id of ids) if (this.#ids.size < MAX_REMEMBERED) this.#ids.add(id)
    this.settle()
    this.#checkClockLater()
    return true
  }

  #checkClockLater(): void {
    this.#clockCheck ??= setTimeout(() => {
      this.#clockCheck = undefined
      this.settle()
      if (this.#ids.size > 0) this.#checkClockLater()
    }, CLOCK_CHECK_MS).unref()
  }

  #clear(): void {
    this.#endsAt = Number.NEGATIVE_INFINITY
    if (this.#ids.size === 0) return
    this.#ids.clear()
    this.#found.fill('')
  }
}

/** A number below FOUND_PLACES for a UUID, from its last digits: they are random in all versions in use. */
function placeOf(id: string): number {
  const three = (id.charCodeAt(35) * 31 + id.charCodeAt(34)) * 31 + id.charCodeAt(33)
  return (three * 31 + id.charCodeAt(32)) & (FOUND_PLACES - 1)
}
