import pino from 'pino'
import { type Connection, execute, type Statement } from '../database/connection.ts'
import { InvalidOptionError, MarksNotStoredError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { canonicalWorkspaceId } from '../workspace-id.ts'
import { insertPendingUsage } from './mark.ts'
import { isOutage } from './outage.ts'
import { assertSource } from './source.ts'

/** Options of {@link UsageTracker}. */
export interface UsageTrackerOptions {
  /**
   * Who says that the workspaces are in use: 1 to 63 characters, one of few (`ssh`, `vscode`, …), never an id.
   * Default: the connection's `application_name`, or `unknown` where that is empty.
   */
  source?: string
  /**
   * Distinct ids that may wait for the database, from 1 to 16,000,000; a million takes about 80 MB. Above it new ids
   * are dropped, counted in {@link UsageTrackerStats.dropped} and logged once per outage. Default 1,000,000.
   */
  maxPending?: number
  /**
   * Where outages, recoveries and losses are told; pino's interface. Default: pino on standard error, so that no loss
   * is silent and standard output stays the program's own.
   */
  logger?: Logger
}

/** Counts since the tracker was made. `marked` is always the sum of the next four. */
export interface UsageTrackerStats {
  /** Calls of `mark` with a well-formed id, before `close`. */
  marked: number
  /** Of them, answered from memory: the id was stored in the open period, or was about to be sent. */
  deduplicated: number
  /** Of them, stored by a statement of this tracker. */
  stored: number
  /** Of them, not known to be stored yet: waiting, under way, or to be tried again. */
  pending: number
  /** Of them, lost because `maxPending` ids were waiting. */
  dropped: number
  /** Statements that failed. Their marks are pending until one succeeds. */
  failedAttempts: number
}

/** Options of {@link UsageTracker.close}. */
export interface CloseOptions {
  /** Milliseconds to wait for the database, from 0 to 2,147,483,647. Default 10,000. */
  timeoutMs?: number
}

/** What {@link UsageTracker.close} left undone. */
export interface CloseResult {
  /** Ids that are not known to be stored. 0 unless the timeout passed. */
  left: number
}

const MAX_BATCH = 5_000
const DEFAULT_MAX_PENDING = 1_000_000
const DEFAULT_CLOSE_TIMEOUT_MS = 10_000
const FIRST_RETRY_MS = 250
const LAST_RETRY_MS = 30_000
const LAST_RETRY_WHEN_CLOSING_MS = 1_000
const CLOCK_CHECK_MS = 250
const MAX_UNPROVEN = 256
const MAX_REMEMBERED = 1_000_000
const FOUND_PLACES = 2 ** 16

/**
 * Marks workspaces as in use, from hot paths: `mark` is synchronous, never waits, and costs a look into a Set for a
 * workspace that is already stored in the open period.
 *
 * One statement at a time carries what was marked while the one before was under way, so an idle tracker stores a
 * mark within a round trip, and a busy one stores up to 5,000 with each. A failed statement is tried again until it
 * succeeds, with a growing pause of 250 ms to 30 s; where PostgreSQL refuses it for a reason that won't pass by itself
 * (privileges, say) the pause is the longest from the start.
 *
 * Marks that wait keep the process alive; bound that with {@link UsageTracker.close}. What is lost nevertheless is
 * logged: marks above `maxPending`, and those that `close` gave up on. If the server crashes, marks that it had stored
 * and not flushed are lost, and repeats of them until the tracker sees the broken connection or its period ends.
 *
 * Share one tracker per source and process: what one has stored, another does not know.
 */
export class UsageTracker implements AsyncDisposable {
  readonly #db: Connection
  readonly #source: string | undefined
  readonly #maxPending: number
  readonly #logger: Logger
  readonly #openPeriod = new OpenPeriod(id => this.#admit(id))

  /** Marks to send, first come, first sent. While a batch is under way it may hold ids of that again. */
  #pending = new Set<string>()
  /** The ids of the statement under way or to be tried again. */
  #batch: ReadonlySet<string> = NOTHING
  /** Whether the batch has left, so that the statement's time may be before a mark that is made now. */
  #underWay = false
  /** Ids that are in `#pending` and in the batch. */
  #overlap = 0
  #sending = false
  #pauseMs = 0
  #endPause: (() => void) | undefined

  #repeats = 0
  #storedMarks = 0
  #dropped = 0
  #failedAttempts = 0
  #consecutiveErrors = 0
  #dropLogged = false

  #batchesStored = 0
  #drains: Drain[] = []
  #closing: Promise<CloseResult> | undefined
  #gaveUp: MarksNotStoredError | undefined
  #lateMarkLogged = false

  readonly #onConnectionError = (error: unknown): void => {
    this.#openPeriod.forget()
    this.#logger.warn({ err: error }, 'an idle database connection broke')
  }

  /**
   * @param db Where the statements run: a `pg` Pool, PGlite or a `Kysely` instance, which the caller owns and ends
   *   after `close`. (A `pg` Client works until its connection breaks.) Its errors of idle connections, which would
   *   otherwise end the process, are logged here until `close`; a pool inside Kysely needs its owner's own listener.
   *   Give it a `query_timeout`: a statement that is never answered holds up all others. The role needs
   *   `INSERT (workspace_id, source)` on `pending_usage`, nothing else.
   * @throws {InvalidOptionError} If `db` has no such method, or an option is out of its range.
   * @throws {InvalidSourceError} If the source is empty, too long or holds NUL.
   */
  constructor(db: Connection, options: UsageTrackerOptions = {}) {
    const { source, maxPending = DEFAULT_MAX_PENDING, logger } = options
    assertConnection(db)
    assertWithin('maxPending', maxPending, 1, 16_000_000)
    this.#db = db
    this.#source = source === undefined ? undefined : assertSource(source)
    this.#maxPending = maxPending
    this.#logger = logger ?? pino({ name: 'workspace-usage' }, pino.destination(2))
    if (emitsErrors(db)) db.on('error', this.#onConnectionError)
  }

  /**
   * Marks a workspace as in use now. Returns at once; the mark is stored soon after, see {@link UsageTracker.drain}.
   *
   * @param workspaceId A UUID; upper and lower case are one workspace.
   * @throws {InvalidWorkspaceIdError} If it is not a UUID. Nothing else is ever thrown.
   */
  mark(workspaceId: string): void {
    if (!this.#openPeriod.covers(workspaceId)) this.#admit(workspaceId)
  }

  /**
   * Resolves when everything marked before the call is stored, marks that were dropped excepted; during an outage, that
   * is after it.
   *
   * @throws {MarksNotStoredError} If `close` gives up before that.
   */
  drain(): Promise<void> {
    this.#openPeriod.prove()
    const batches = Math.ceil(this.#pending.size / MAX_BATCH) + (this.#batch.size > 0 ? 1 : 0)
    if (batches === 0) return Promise.resolve()
    if (this.#gaveUp) return Promise.reject(this.#gaveUp)
    const last = this.#batchesStored + batches
    return new Promise((resolve, reject) => this.#drains.push({ last, resolve, reject }))
  }

  /**
   * Stops taking marks, stores those that wait, and lets go of the connection without ending it. During an outage it
   * tries at once and then at least every second until the timeout, which it logs as an error. A mark made after this
   * call is ignored, and the first such mark logged. A second call returns the first one's promise.
   *
   * @throws {InvalidOptionError} If `timeoutMs` is out of its range; the tracker stays open then.
   */
  async close(options: CloseOptions = {}): Promise<CloseResult> {
    const { timeoutMs = DEFAULT_CLOSE_TIMEOUT_MS } = options
    assertWithin('timeoutMs', timeoutMs, 0, 2_147_483_647)
    this.#closing ??= this.#close(timeoutMs)
    return this.#closing
  }

  /** `close()`, with its defaults. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** What became of the marks so far. */
  stats(): UsageTrackerStats {
    this.#openPeriod.prove()
    const counts = {
      deduplicated: this.#repeats + this.#openPeriod.covered,
      stored: this.#storedMarks,
      pending: this.#pending.size + this.#batch.size,
      dropped: this.#dropped,
    }
    const marked = counts.deduplicated + counts.stored + counts.pending + counts.dropped
    return { marked, ...counts, failedAttempts: this.#failedAttempts }
  }

  /** Takes in a mark that the open period does not cover. */
  #admit(workspaceId: string): void {
    if (this.#closing) this.#ignore(workspaceId)
    // Before anything is validated, so that a repeat during an outage costs no more than that of a stored id.
    else if (this.#waits(workspaceId)) this.#repeats++
    else this.#admitCanonical(canonicalWorkspaceId(workspaceId), workspaceId)
  }

  #admitCanonical(id: string, spelling: string): void {
    if (id !== spelling) {
      if (this.#openPeriod.covers(id, spelling)) return
      if (this.#waits(id)) {
        this.#repeats++
        return
      }
    }
    const again = this.#batch.has(id)
    if (!again && this.#distinctPending >= this.#maxPending) {
      this.#drop()
      return
    }
    if (again) this.#overlap++
    this.#pending.add(id)
    if (!this.#sending) void this.#send()
  }

  /** Whether a statement is still to be sent that will carry the id. */
  #waits(id: string): boolean {
    return this.#pending.has(id) || (!this.#underWay && this.#batch.has(id))
  }

  get #distinctPending(): number {
    return this.#pending.size + this.#batch.size - this.#overlap
  }

  #drop(): void {
    this.#dropped++
    if (this.#dropLogged) return
    this.#dropLogged = true
    this.#logger.error(
      { maxPending: this.#maxPending, consecutiveErrors: this.#consecutiveErrors },
      'more than maxPending workspaces wait to be marked; further ones are lost until the database is back',
    )
  }

  #ignore(workspaceId: string): void {
    canonicalWorkspaceId(workspaceId)
    if (this.#lateMarkLogged) return
    this.#lateMarkLogged = true
    this.#logger.error({ workspaceId }, 'developer error: mark called after close')
  }

  /** Sends batch after batch until nothing waits. Runs once at a time, and never rejects. */
  async #send(): Promise<void> {
    this.#sending = true
    // Whatever else the caller marks in this turn is part of the first batch.
    await null
    while (this.#pending.size > 0 && !this.#gaveUp) {
      this.#batch = this.#takeBatch()
      while (!(await this.#storeBatch()) && !this.#gaveUp) await this.#pause()
    }
    this.#sending = false
    this.#dropLogged = false
    this.#settleDrains()
  }

  #takeBatch(): Set<string> {
    if (this.#pending.size <= MAX_BATCH) {
      const all = this.#pending
      this.#pending = new Set()
      return all
    }
    const batch = new Set<string>()
    for (const id of this.#pending) {
      batch.add(id)
      this.#pending.delete(id)
      if (batch.size === MAX_BATCH) break
    }
    return batch
  }

  /** One attempt at storing the batch; whether it succeeded. */
  async #storeBatch(): Promise<boolean> {
    this.#underWay = true
    const sentAt = performance.now()
    let answer: Answer | undefined
    try {
      const { rows } = await execute(this.#db, storeStatement([...this.#batch], this.#source))
      answer = rows[0]
    } catch (error) {
      this.#underWay = false
      this.#absorbOverlap()
      this.#failed(error)
      return false
    }
    this.#underWay = false
    this.#succeeded()
    if (this.#openPeriod.holds(this.#batch, sentAt, answer)) this.#absorbOverlap()
    this.#overlap = 0
    // Once closed nothing is remembered, so that a late mark is seen as one.
    if (this.#closing) this.#openPeriod.forget()
    this.#storedMarks += this.#batch.size
    this.#batchesStored++
    this.#batch = NOTHING
    this.#settleDrains()
    return true
  }

  /** Marks made while the batch was under way need no statement of their own: it covers them, or is sent again. */
  #absorbOverlap(): void {
    if (this.#overlap === 0) return
    for (const id of this.#batch) if (this.#pending.delete(id)) this.#repeats++
    this.#overlap = 0
  }

  #succeeded(): void {
    if (this.#consecutiveErrors === 0) return
    this.#logger.info(
      {
        carriedOver: this.#distinctPending,
        consecutiveErrors: this.#consecutiveErrors,
        dropped: this.#dropped,
      },
      'marks are stored again',
    )
    this.#consecutiveErrors = 0
  }

  #failed(error: unknown): void {
    // The server may have crashed, and emptied the table.
    this.#openPeriod.forget()
    this.#failedAttempts++
    const consecutiveErrors = ++this.#consecutiveErrors
    const passing = isOutage(error)
    this.#pauseMs = passing ? jitteredPause(consecutiveErrors, this.#longestPauseMs) : this.#longestPauseMs
    const fields = {
      err: error,
      consecutiveErrors,
      pending: this.#distinctPending,
      retryInMs: Math.round(this.#pauseMs),
    }
    if (!passing) this.#logger.error(fields, 'the database refuses marks; they are kept and tried again')
    else if (consecutiveErrors > 1) this.#logger.error(fields, 'marks still fail to be stored; they are kept')
    else this.#logger.warn(fields, 'marks failed to be stored; they are kept and tried again')
  }

  get #longestPauseMs(): number {
    return this.#closing ? LAST_RETRY_WHEN_CLOSING_MS : LAST_RETRY_MS
  }

  /** Waits for the time to try again, which `#endPause` brings forward. */
  #pause(): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, Math.min(this.#pauseMs, this.#longestPauseMs))
      this.#endPause = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  async #close(timeoutMs: number): Promise<CloseResult> {
    const drained = this.drain()
    this.#openPeriod.forget()
    this.#endPause?.()
    const timer = setTimeout(() => this.#giveUp(timeoutMs), timeoutMs)
    await drained.catch(() => {})
    clearTimeout(timer)
    if (emitsErrors(this.#db)) this.#db.removeListener('error', this.#onConnectionError)
    return { left: this.#gaveUp?.left ?? 0 }
  }

  #giveUp(timeoutMs: number): void {
    this.#gaveUp = new MarksNotStoredError(this.#distinctPending, timeoutMs)
    this.#logger.error({ left: this.#gaveUp.left, timeoutMs }, 'closed with marks that are not stored')
    for (const drain of this.#drains.splice(0)) drain.reject(this.#gaveUp)
    this.#endPause?.()
  }

  #settleDrains(): void {
    if (this.#drains.length === 0) return
    const settled = (drain: Drain): boolean => !this.#sending || drain.last <= this.#batchesStored
    for (const drain of this.#drains) if (settled(drain)) drain.resolve()
    this.#drains = this.#drains.filter(drain => !settled(drain))
  }
}

/**
 * The ids that are stored in the open period, where they stay until it ends.
 *
 * A mark must not be answered from here once the period is over, yet a look at the clock costs more than all the rest
 * of a mark. So marks are answered first and proven after: the last few are kept by id until a look at the clock,
 * which is later than they were, says that the period is still open. If it says otherwise, they are marked again. The
 * clock is looked at four times a second, at every 256th mark, and at every mark when the end is near: only where the
 * event loop was blocked over the end is a mark made again that was in time.
 */
class OpenPeriod {
  /** Marks answered from here and proven. */
  covered = 0

  readonly #markAgain: (id: string) => void
  readonly #ids = new Set<string>()
  /**
   * Strings as they were passed that name a stored id, each at a place of its digits: to look one up there takes half
   * the time of a Set, which has to hash all 36 characters of a string it has not seen. Few, for a string may be a slice
   * that keeps a whole request in memory.
   */
  readonly #found: string[] = new Array(FOUND_PLACES).fill('')
  /** On the clock of `performance.now()`; what the database said last. */
  #endsAt = Number.NEGATIVE_INFINITY
  #name: string | undefined

  /** Filled from the place `#first` downwards; `#next` is the next free one. */
  readonly #unproven: string[] = new Array(MAX_UNPROVEN).fill('')
  #first = 0
  #next = 0
  #clockCheck: NodeJS.Timeout | undefined

  constructor(markAgain: (id: string) => void) {
    this.#markAgain = markAgain
  }

  /**
   * Whether the id is stored, so that a mark of it made now needs nothing; if that was too late, it is made again.
   *
   * @param id Canonical, or a string that was passed as a spelling before. Anything else is not stored.
   */
  covers(id: string, spelling = id): boolean {
    if (typeof id !== 'string' || id.length !== 36) return false
    const place = placeOf(spelling)
    if (this.#found[place] !== spelling) {
      if (!this.#ids.has(id)) return false
      this.#found[place] = spelling
    }
    this.#unproven[this.#next] = id
    if (--this.#next < 0) this.prove()
    return true
  }

  /** Looks at the clock, which settles all marks that were answered so far. */
  prove(): void {
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

  /** Forgets what is stored: it may be gone. */
  forget(): void {
    this.prove()
    this.#clear()
  }

  /**
   * Learns from the answer to a statement that the ids are stored. Returns whether that covers marks of them made
   * until now; if not, the period has ended meanwhile.
   *
   * @param sentAt When it was sent or before, by `performance.now()`: counted from then, the period can only seem to
   *   end too early.
   */
  holds(ids: Iterable<string>, sentAt: number, answer: Answer | undefined): boolean {
    this.prove()
    const endsAt = sentAt + Number(answer?.remaining_ms)
    if (!(performance.now() < endsAt)) {
      this.#clear()
      return false
    }
    if (answer?.period !== this.#name) this.#clear()
    this.#name = answer?.period
    this.#endsAt = endsAt
    for (const id of ids) if (this.#ids.size < MAX_REMEMBERED) this.#ids.add(id)
    this.prove()
    this.#checkClockLater()
    return true
  }

  #checkClockLater(): void {
    this.#clockCheck ??= setTimeout(() => {
      this.#clockCheck = undefined
      this.prove()
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

interface Answer {
  /** Of the period in which the ids were stored. */
  remaining_ms: number
  /** The period's end and the server's start: another server, or this one started anew, may lack what was stored. */
  period: string
}

function storeStatement(ids: readonly string[], source: string | undefined): Statement<Answer> {
  const insert = insertPendingUsage(ids, source)
  return {
    sql: `WITH stored AS (${insert.sql})
      SELECT
        extract(epoch FROM usage_period_end() - statement_timestamp())::float8 * 1000 AS remaining_ms,
        concat_ws(' ', extract(epoch FROM usage_period_end()), extract(epoch FROM pg_postmaster_start_time()))
          AS period`,
    parameters: insert.parameters,
  }
}

interface Drain {
  /** The number, counted from the first, of the batch that ends the wait. */
  last: number
  resolve(): void
  reject(error: MarksNotStoredError): void
}

const NOTHING: ReadonlySet<string> = new Set()

/** Milliseconds from the shortest pause to a ceiling that doubles with each attempt, so that replicas spread. */
function jitteredPause(attempt: number, longest: number): number {
  const ceiling = Math.min(longest, FIRST_RETRY_MS * 2 ** attempt)
  return FIRST_RETRY_MS + Math.random() * (ceiling - FIRST_RETRY_MS)
}

/** A number below FOUND_PLACES for a UUID, from its last digits, which are random in all versions in use. */
function placeOf(id: string): number {
  const three = (id.charCodeAt(35) * 31 + id.charCodeAt(34)) * 31 + id.charCodeAt(33)
  return (three * 31 + id.charCodeAt(32)) & (FOUND_PLACES - 1)
}

interface ErrorEmitter {
  on(event: 'error', listener: (error: unknown) => void): unknown
  removeListener(event: 'error', listener: (error: unknown) => void): unknown
}

function emitsErrors(db: object): db is ErrorEmitter {
  return 'on' in db && typeof db.on === 'function' && 'removeListener' in db
}

function assertConnection(db: unknown): void {
  const methods: { query?: unknown; executeQuery?: unknown } = Object(db)
  if (typeof methods.query !== 'function' && typeof methods.executeQuery !== 'function') {
    throw new InvalidOptionError('db', db, 'a pg Pool or Client, PGlite, or a Kysely instance')
  }
}

function assertWithin(option: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new InvalidOptionError(option, value, `an integer from ${least} to ${most}`)
  }
}
