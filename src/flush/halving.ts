import type { Connection } from '../database/connection.ts'
import { type AttemptOptions, attemptFlush, type Failure } from './attempt.ts'
import { type Batch, dueBatch, type Taking } from './due-marks.ts'
import { isLockTimeout, type Refusal, recordRefusals } from './refusal.ts'
import type { FlushCounts } from './statement.ts'

/** How long one flush may look for the workspaces at fault, in ms. Flushed workspaces stay locked meanwhile. */
const BUDGET_MS = 1_000

/** On a shard each statement commits by itself, so nothing stays locked. */
const BUDGET_ON_SHARD_MS = 5_000

/** If so many workspaces are refused and none is flushed, the fault is not theirs. */
const TOO_MANY_REFUSALS = 16

/** What was flushed around the workspaces at fault. */
export interface HalvingResult {
  counts: FlushCounts[]
  refusals: Refusal[]
  /** Whether the whole batch was settled. Otherwise the time was over. The rest is left for the next flush. */
  complete: boolean
}

/**
 * Flushes a batch in spite of workspaces whose update PostgreSQL refuses. Halving finds them: it flushes one half of
 * the suspects. If that succeeds, the other half has the fault. So log2 of the batch statements find one workspace, and
 * one more flushes the rest.
 *
 * @param failure Why the batch could not be flushed as a whole.
 * @throws The error of a statement, if nothing can be flushed. The fault is not that of single workspaces then.
 */
export async function flushByHalves(
  connection: Connection,
  taking: Taking,
  failure: Failure,
  options: AttemptOptions,
): Promise<HalvingResult> {
  const batch = await dueBatch(connection, taking, options.idType)
  // In a random order each flush finds others, also if it gives up for too many refusals.
  const ids = batch.ids.toSorted(() => Math.random() - 0.5)
  const halving = new Halving(connection, taking, { ...batch, ids }, options)
  return await halving.run(failure)
}

class Halving {
  readonly #connection: Connection
  readonly #taking: Taking
  readonly #batch: Batch
  readonly #options: AttemptOptions
  readonly #deadline: number
  readonly #counts: FlushCounts[] = []
  readonly #refusals: Refusal[] = []

  constructor(connection: Connection, taking: Taking, batch: Batch, options: AttemptOptions) {
    this.#connection = connection
    this.#taking = taking
    this.#batch = batch
    this.#options = options
    this.#deadline = performance.now() + (options.onShard ? BUDGET_ON_SHARD_MS : BUDGET_MS)
  }

  async run(first: Failure): Promise<HalvingResult> {
    let failure: Failure | undefined = first
    // Somebody has locked a table: not even a flush of nothing goes through.
    if (isLockTimeout(first.error) && (await this.#try([]))) throw first.error
    let rest = this.#batch.ids
    while (failure) {
      rest = failure.workspaceIds
        ? await this.#refuse(failure.workspaceIds, failure, rest)
        : await this.#refuseOne(rest)
      if (performance.now() > this.#deadline) return this.#outOfTime(failure)
      // With the refused ones, because this statement sets their marks aside.
      failure = await this.#try([...rest, ...this.#refusals.map(({ workspaceId }) => workspaceId)])
    }
    return this.#result(true)
  }

  /** Finds one workspace at fault and refuses it. Returns those that are not flushed. */
  async #refuseOne(ids: readonly string[]): Promise<readonly string[]> {
    let suspects = ids
    const rest: string[] = []
    while (suspects.length > 1 && performance.now() <= this.#deadline) {
      const middle = suspects.length >> 1
      const half = suspects.slice(0, middle)
      const failure = await this.#try(half)
      if (!failure) suspects = suspects.slice(middle)
      else {
        rest.push(...suspects.slice(middle))
        suspects = half
        if (failure.workspaceIds)
          return [...rest, ...(await this.#refuse(failure.workspaceIds, failure, half))]
      }
    }
    if (suspects.length > 1) return [...rest, ...suspects]
    // An error may have been a passing one. So this workspace is refused only if it fails by itself.
    const failure = suspects.length === 1 ? await this.#try(suspects) : undefined
    return failure ? await this.#refuse(suspects, failure, rest) : rest
  }

  /** @returns The other ones of `ids`. */
  async #refuse(
    workspaceIds: readonly string[],
    failure: Failure,
    ids: readonly string[],
  ): Promise<readonly string[]> {
    this.#refusals.push(
      ...(await recordRefusals(this.#connection, workspaceIds, failure.reason, this.#options.idType)),
    )
    const nobodyIsFlushed = failure.error !== undefined && !this.#hasFlushed()
    if (nobodyIsFlushed && this.#refusals.length >= TOO_MANY_REFUSALS) throw failure.error
    return ids.filter(id => !workspaceIds.includes(id))
  }

  async #try(ids: readonly string[]): Promise<Failure | undefined> {
    const among = { ...this.#batch, ids }
    const attempt = await attemptFlush(this.#connection, { ...this.#taking, among }, this.#options, 2)
    if (!('counts' in attempt)) return attempt
    this.#counts.push(attempt.counts)
    return undefined
  }

  #hasFlushed(): boolean {
    return this.#counts.some(({ workspaces }) => workspaces > 0)
  }

  #outOfTime(failure: Failure): HalvingResult {
    if (!this.#hasFlushed() && failure.error !== undefined) throw failure.error
    return this.#result(false)
  }

  #result(complete: boolean): HalvingResult {
    return { counts: this.#counts, refusals: this.#refusals, complete }
  }
}
