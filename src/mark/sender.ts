import type { PeriodAnswer } from './batch.ts'
import type { LostMarks } from './lost-marks.ts'
import type { MarkCounts } from './mark-counts.ts'
import { type Mode, modeAfter, sends, takesMarks } from './mode.ts'
import type { OpenPeriod } from './open-period.ts'
import type { Outage } from './outage.ts'
import type { PendingBatch } from './pending-batch.ts'
import type { PendingMarks } from './pending-marks.ts'

/** Stores ids in one statement. */
type Store = (ids: ReadonlySet<string>) => Promise<PeriodAnswer | undefined>

/** What a sender shares with its tracker. */
interface Shared {
  openPeriod: OpenPeriod
  pending: PendingMarks
  outage: Outage
  lost: LostMarks
  counts: MarkCounts
}

/** Sends the pending marks of a tracker, batch after batch, until none waits. */
export class Sender {
  readonly #storeIds: Store
  /** How many statements may be under way. */
  readonly #most: number
  readonly #openPeriod: OpenPeriod
  readonly #pending: PendingMarks
  readonly #outage: Outage
  readonly #lost: LostMarks
  readonly #counts: MarkCounts
  #mode: Mode = 'idle'
  #wake: (() => void) | undefined
  #endPause: (() => void) | undefined
  #sent: Promise<void> = Promise.resolve()

  constructor(store: Store, most: number, { openPeriod, pending, outage, lost, counts }: Shared) {
    this.#storeIds = store
    this.#most = most
    this.#openPeriod = openPeriod
    this.#pending = pending
    this.#outage = outage
    this.#lost = lost
    this.#counts = counts
  }

  /** Whether marks are still taken. */
  get takesMarks(): boolean {
    return takesMarks(this.#mode)
  }

  /** Resolves when nothing is under way. A statement may be answered after `stop`. */
  get idle(): Promise<void> {
    return this.#sent
  }

  /** Begins to send, unless that is going on, or wakes up for a whole batch. */
  sendSoon(): void {
    if (this.#mode === 'idle') this.#sent = this.#send()
    else if (this.#pending.isFull) this.#wake?.()
  }

  /** Takes no more marks, and tries at once to store those that wait. */
  close(): void {
    this.#enter('closing')
    this.#endPause?.()
  }

  /** Sends nothing any more. */
  stop(): void {
    this.#enter('closed')
    this.#endPause?.()
  }

  /** Asks for a mode. A closing tracker ignores all modes but `closed`. */
  #enter(mode: Mode): void {
    this.#mode = modeAfter(this.#mode, mode)
  }

  /** Sends batch after batch until no mark waits. Only one call runs at a time. It never rejects. */
  async #send(): Promise<void> {
    this.#enter('sending')
    // So the first batch also carries what the caller marks before it next awaits something.
    await null
    const underWay = new Set<Promise<void>>()
    const start = (batch: PendingBatch) => {
      const stored = this.#store(batch).finally(() => underWay.delete(stored))
      underWay.add(stored)
    }
    while (sends(this.#mode) || underWay.size > 0) {
      // In an outage one statement tries, and the others wait for it.
      const isOutage = this.#outage.consecutiveErrors > 0
      const most = isOutage ? 1 : this.#most
      if (isOutage && underWay.size === 0) await this.#pause()
      while (underWay.size < most && sends(this.#mode)) {
        const batch = this.#pending.next(underWay.size > 0)
        if (!batch) break
        start(batch)
      }
      if (underWay.size === 0) break
      const { promise, resolve } = Promise.withResolvers<void>()
      // Not in vain: each race stays in memory until the statements under way are answered.
      this.#wake = underWay.size < most ? resolve : undefined
      await Promise.race([...underWay, promise])
    }
    // Nothing is awaited since the last look at the marks, or else one that came meanwhile would wait for the next one.
    this.#wake = undefined
    this.#enter('idle')
    this.#lost.noneWaits()
  }

  /** Tries once to store a batch. Never rejects. */
  async #store(batch: PendingBatch): Promise<void> {
    const sent = this.#openPeriod.send()
    if (this.#pending.send(batch) > 1) this.#counts.retries++
    let answer: PeriodAnswer | undefined
    try {
      answer = await this.#storeIds(batch.ids)
    } catch (error) {
      this.#pending.fail(batch)
      this.#fail(error, sent.number, !takesMarks(this.#mode))
      return
    }
    if (answer?.left) {
      this.#pending.settle(batch, false, answer.left.ids)
      // The other nodes take marks, so those must not wait for long.
      this.#fail(answer.left.error, sent.number, true)
      return
    }
    this.#outage.end(sent.number, this.#pending.ids, this.#counts.dropped)
    const coversRepeats = this.#openPeriod.learn(batch.ids, sent, answer)
    // A closing tracker remembers no id. Otherwise it would answer a late mark from memory instead of logging it.
    if (!takesMarks(this.#mode)) this.#openPeriod.forget()
    this.#pending.settle(batch, coversRepeats)
  }

  /** @param soon Whether the next attempt must not be far away. */
  #fail(error: unknown, number: number, soon: boolean): void {
    // The server may have crashed, and emptied the table.
    this.#openPeriod.lose()
    if (!sends(this.#mode)) return
    this.#outage.learn(error, number, this.#openPeriod.sent, this.#pending.ids, soon)
  }

  /** Waits until the next attempt. `#endPause` ends the wait early. */
  async #pause(): Promise<void> {
    this.#enter('pausing')
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, this.#outage.pauseMs(!takesMarks(this.#mode)))
    this.#endPause = resolve
    await promise
    clearTimeout(timer)
    this.#enter('sending')
  }
}
