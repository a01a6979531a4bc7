import type { Message, Outcome } from './messages.ts'
import { PERIOD_MS, SOURCES } from './universe.ts'

/**
 * How long after a failure the statement may still reach the database, in ms. A stopped backend or a stalled connection
 * delivers it late. It is more than the longest of these faults.
 */
export const LATE_MS = 10_000

const NEVER = Number.NEGATIVE_INFINITY

/** Marks, or a deletion, whose end was not heard yet. */
type Open =
  | { kind: 'marks'; source: number; workspaces: readonly number[] }
  | { kind: 'deletion'; workspaces: readonly number[] }

/** What the writers said about their marks. It keeps what the judge needs of each workspace and source. */
export class HistoryLog {
  /** For each pair: when the last acknowledged mark began. */
  readonly acknowledged: Float64Array
  /** For each pair: until when its last mark can have been stored, if its outcome is unknown as well. */
  readonly possible: Float64Array
  /** For each workspace: when the last deletion can have happened. */
  readonly deleted: Float64Array
  /** When the server crashed, from the last moment before until it was up again. */
  readonly crashes: { from: number; to: number }[] = []
  /** Workspaces whose flushed times were gone after a crash. */
  flushedAndLost = 0
  readonly counts = { calls: 0, acknowledged: 0, 'rolled back': 0, unknown: 0, deletions: 0 }
  readonly #size: number
  readonly #open = new Map<string, Map<number, Open>>()

  constructor(size: number) {
    this.#size = size
    this.acknowledged = new Float64Array(size * SOURCES.length).fill(NEVER)
    this.possible = new Float64Array(size * SOURCES.length).fill(NEVER)
    this.deleted = new Float64Array(size).fill(NEVER)
  }

  /** The place of a workspace and a source in the arrays. */
  pair(workspace: number, source: number): number {
    return source * this.#size + workspace
  }

  /** Whether a deletion of this workspace has been announced, and its end was not heard yet. */
  mayBeDeleted(workspace: number): boolean {
    for (const rounds of this.#open.values()) {
      for (const open of rounds.values()) {
        if (open.kind === 'deletion' && open.workspaces.includes(workspace)) return true
      }
    }
    return false
  }

  /** Whether a deletion of this workspace may have happened since then. */
  mayBeDeletedSince(workspace: number, since: number): boolean {
    return this.deleted[workspace]! >= since || this.mayBeDeleted(workspace)
  }

  /** @param owner the process that says it, with its life */
  hear(owner: string, message: Message): void {
    if (message.type === 'intent') {
      const { source, workspaces } = message
      this.#openOf(owner).set(message.round, { kind: 'marks', source, workspaces })
    } else if (message.type === 'deleting') {
      this.#openOf(owner).set(message.round, { kind: 'deletion', workspaces: message.workspaces })
    } else if (message.type === 'outcome') {
      const round = this.#take(owner, message.round)
      if (round?.kind === 'marks') this.#settleMarks(round, message)
    } else if (message.type === 'deleted') {
      const round = this.#take(owner, message.round)
      if (round?.kind === 'deletion') this.#settleDeletion(round, message.outcome, message.at)
    }
  }

  /** The process has ended, and nothing more will be heard of it. */
  ended(owner: string, at: number): void {
    for (const open of this.#openOf(owner).values()) {
      if (open.kind === 'deletion') this.#settleDeletion(open, 'unknown', at)
      else {
        const unknown = { outcome: 'unknown', before: at, stored: at, calls: open.workspaces.length } as const
        this.#settleMarks(open, { ...unknown, retried: true })
      }
    }
    this.#open.delete(owner)
  }

  #settleMarks(
    { source, workspaces }: { source: number; workspaces: readonly number[] },
    {
      outcome,
      before,
      stored,
      calls,
      retried,
    }: { outcome: Outcome; before: number; stored: number; calls: number; retried: boolean },
  ): void {
    this.counts.calls += calls
    this.counts[outcome] += workspaces.length
    if (outcome === 'rolled back') return
    const latest = retried || outcome === 'unknown' ? stored + LATE_MS : stored
    for (const workspace of workspaces) {
      const pair = this.pair(workspace, source)
      this.possible[pair] = Math.max(this.possible[pair]!, latest)
      if (outcome === 'acknowledged') this.acknowledged[pair] = Math.max(this.acknowledged[pair]!, before)
    }
  }

  #settleDeletion({ workspaces }: { workspaces: readonly number[] }, outcome: Outcome, at: number): void {
    if (outcome === 'rolled back') return
    const latest = outcome === 'unknown' ? at + LATE_MS : at
    this.counts.deletions += workspaces.length
    for (const workspace of workspaces) this.deleted[workspace] = Math.max(this.deleted[workspace]!, latest)
  }

  #openOf(owner: string): Map<number, Open> {
    const open = this.#open.get(owner) ?? new Map<number, Open>()
    this.#open.set(owner, open)
    return open
  }

  #take(owner: string, round: number): Open | undefined {
    const open = this.#openOf(owner)
    const found = open.get(round)
    open.delete(round)
    return found
  }
}

/** The end of the period that a moment falls in. */
export function periodEnd(at: number): number {
  return (Math.floor(at / PERIOD_MS) + 1) * PERIOD_MS
}
