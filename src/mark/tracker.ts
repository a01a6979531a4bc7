import { A_CONNECTION, type Connection, listenForErrors } from '../database/connection.ts'
import { MarksNotStoredError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { checkOption, checkOptions } from '../options.ts'
import { canonicalWorkspaceId, type WorkspaceId, type WorkspaceIdType } from '../workspace-id.ts'
import { storeBatch } from './batch.ts'
import { LostMarks } from './lost-marks.ts'
import { MarkCounts } from './mark-counts.ts'
import { countTracker } from './marks-by-source.ts'
import { mostUnderWay } from './most-under-way.ts'
import { OpenPeriod } from './open-period.ts'
import { Outage } from './outage.ts'
import { ownString } from './own-string.ts'
import { PendingMarks } from './pending-marks.ts'
import { Sender } from './sender.ts'
import { findSdk } from './telemetry.ts'
import {
  CLOSE_OPTIONS,
  type CloseOptions,
  type CloseResult,
  DEFAULTS,
  trackerSettings,
  type UsageTrackerOptions,
  type UsageTrackerStats,
} from './tracker-options.ts'

export type { CloseOptions, CloseResult, UsageTrackerOptions, UsageTrackerStats } from './tracker-options.ts'

/**
 * Marks workspaces as in use, also on hot paths. `mark` is synchronous and never waits. If the workspace is already
 * stored in the open period, `mark` only looks into memory.
 *
 * Marks that come while a statement is under way wait for the next one, which carries up to 5,000 of them. So an idle
 * tracker stores a mark within one round trip. If so many wait, a second statement is sent meanwhile, over another
 * connection of the pool. There are never more than two. A failed statement is sent again until it succeeds, after a pause that grows from
 * 250 ms to 30 s. So is one that is not answered in time. The pause is 30 s from the start if PostgreSQL refuses the
 * statement for a lasting reason, such as a missing privilege.
 *
 * Marks that wait keep the process alive. {@link UsageTracker.close} bounds that. Marks above `maxPending` are lost. So
 * are the marks that `close` gives up on. Both are logged. A crash of the server loses stored marks that were not
 * flushed. Repeats of those are lost too, until the tracker notices the broken connection or the period ends.
 *
 * Share one tracker per source and process, because a tracker does not know what another one has stored.
 */
export class UsageTracker implements AsyncDisposable {
  readonly #idType: WorkspaceIdType
  readonly #logger: Logger
  readonly #stopListening: () => void

  readonly #counts = new MarkCounts()
  readonly #openPeriod: OpenPeriod
  readonly #pending: PendingMarks
  readonly #outage: Outage

  readonly #lost: LostMarks
  readonly #sender: Sender
  #closing: Promise<CloseResult> | undefined
  #gaveUp: MarksNotStoredError | undefined
  /** The metrics hold this function weakly. It lives as long as the tracker. */
  readonly #readPending = () => {
    this.#openPeriod.settle()
    return this.#pending
  }
  readonly #stopCounting: () => void

  /**
   * @param db Where the statements run: a `pg` Pool, PGlite or a `Kysely` instance. The caller owns it, and ends it
   *   after `close`. (A `pg` Client works until its connection breaks.) Until `close` the tracker logs the errors of
   *   idle connections, because an unheard error ends the process. A connection of a pool that misses
   *   `statementTimeoutMs` is destroyed, and so are the idle ones, which may be silent too. Nobody can reach those
   *   inside Kysely: its owner must listen to the errors of the pool and of its clients, and a silent connection stays
   *   out of the pool until its socket fails. So better pass the pool. The role needs only
   *   `INSERT (workspace_id, source)` on `pending_usage`.
   * @throws {InvalidOptionError} If `db` is no connection, or an option is out of its range.
   * @throws {UnknownOptionError} If there is no option of that name.
   * @throws {InvalidSourceError} If the source is empty, too long or holds NUL.
   */
  constructor(db: Connection, options: UsageTrackerOptions = {}) {
    checkOption('db', db, A_CONNECTION)
    const { marks, maxPending, statementTimeoutMs, logger } = trackerSettings(options)
    this.#idType = marks.idType
    this.#logger = logger
    this.#openPeriod = new OpenPeriod(marks.idType, id => this.#admit(id), this.#counts)
    this.#pending = new PendingMarks(maxPending, this.#counts)
    this.#outage = new Outage(logger)
    this.#lost = new LostMarks(logger, this.#counts)
    let distributed = false
    const store = async (ids: ReadonlySet<string>) => {
      const answer = await storeBatch(db, ids, { ...marks, distributed }, statementTimeoutMs)
      distributed = answer?.distributed ?? distributed
      return answer
    }
    this.#sender = new Sender(store, mostUnderWay(db), {
      openPeriod: this.#openPeriod,
      pending: this.#pending,
      outage: this.#outage,
      lost: this.#lost,
      counts: this.#counts,
    })
    this.#stopListening = listenForErrors(db, error => {
      this.#openPeriod.lose()
      logger.warn({ err: error }, 'an idle database connection broke')
    })
    this.#stopCounting = countTracker(marks.source, this.#counts, this.#readPending)
    findSdk()
  }

  /**
   * Marks a workspace as in use now. Returns at once. The mark is stored soon after. {@link UsageTracker.drain} tells
   * when.
   *
   * @param workspaceId An id of the type `idType`, as {@link canonicalWorkspaceId} accepts it. A string is fastest.
   * @throws {InvalidWorkspaceIdError} If it is no id of that type. It throws nothing else.
   */
  mark(workspaceId: WorkspaceId): void {
    const id = typeof workspaceId === 'string' ? workspaceId : canonicalWorkspaceId(workspaceId, this.#idType)
    if (!this.#openPeriod.answer(id)) this.#admit(id)
  }

  /**
   * Resolves when all marks made before this call are stored, except dropped ones. During an outage it waits for the
   * end of the outage.
   *
   * @throws {MarksNotStoredError} If `close` gives up before that.
   */
  drain(): Promise<void> {
    this.#openPeriod.settle()
    if (this.#pending.marks === 0) return Promise.resolve()
    return this.#gaveUp ? Promise.reject(this.#gaveUp) : this.#pending.drain()
  }

  /**
   * Takes no more marks, stores those that wait, and lets go of the connection without ending it. During an outage it
   * tries at once and then at least every second. If the timeout passes first, it gives up and logs an error. Marks
   * made after this call are ignored, and the first of them is logged. A second call waits for the same close.
   *
   * @throws {InvalidOptionError} If `timeoutMs` is out of its range; the tracker stays open then.
   * @throws {UnknownOptionError} If there is no option of that name; the tracker stays open then.
   */
  async close(options: CloseOptions = {}): Promise<CloseResult> {
    checkOptions(options, CLOSE_OPTIONS)
    this.#closing ??= this.#close(options.timeoutMs ?? DEFAULTS.closeTimeoutMs)
    return this.#closing
  }

  /** `close()`, with its defaults. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Counts what became of the marks so far. */
  stats(): UsageTrackerStats {
    const { marks: pending } = this.#readPending()
    const { deduplicated, stored, dropped } = this.#counts
    const marked = deduplicated + stored + pending + dropped
    return { marked, deduplicated, stored, pending, dropped, failedAttempts: this.#outage.failedAttempts }
  }

  /** Takes a mark that the open period did not answer. */
  #admit(workspaceId: string): void {
    if (!this.#sender.takesMarks) this.#lost.ignore(canonicalWorkspaceId(workspaceId, this.#idType))
    // The look-up comes before the validation, so that repeats are cheap during an outage as well.
    else if (!this.#pending.answer(workspaceId)) {
      this.#admitCanonical(canonicalWorkspaceId(workspaceId, this.#idType), workspaceId)
    }
  }

  #admitCanonical(id: string, spelling: string): void {
    if (id !== spelling && (this.#openPeriod.answer(id, spelling) || this.#pending.answer(id))) return
    const { maxPending } = this.#pending
    if (!this.#pending.add(ownString(id))) this.#lost.drop(maxPending, this.#outage.consecutiveErrors)
    else this.#sender.sendSoon()
  }

  async #close(timeoutMs: number): Promise<CloseResult> {
    const drained = this.drain()
    this.#openPeriod.forget()
    this.#sender.close()
    const timer = setTimeout(() => this.#giveUp(timeoutMs), timeoutMs)
    await drained.catch(() => {})
    clearTimeout(timer)
    this.#sender.stop()
    this.#stopListening()
    void this.#sender.idle.then(this.#stopCounting)
    return { left: this.#gaveUp?.left ?? 0 }
  }

  #giveUp(timeoutMs: number): void {
    this.#sender.stop()
    this.#gaveUp = new MarksNotStoredError(this.#pending.ids, timeoutMs)
    this.#logger.error({ left: this.#gaveUp.left, timeoutMs }, 'closed with marks that are not stored')
    this.#pending.rejectDrains(this.#gaveUp)
  }
}
