import { flushShards } from '../citus/flush-shards.ts'
import { A_CONNECTION, type Connection } from '../database/connection.ts'
import { onCoordinator } from '../database/distributed.ts'
import { type OpenTransaction, transactionOn } from '../database/transaction.ts'
import {
  checkOption,
  checkOptions,
  integerWithin,
  numberWithin,
  type OptionRules,
  YES_OR_NO,
} from '../options.ts'
import { flushWithin } from './flush-within.ts'
import type { Refusal } from './refusal.ts'
import { lookFirst, type UsageReset } from './reset.ts'
import { prepare } from './settings.ts'
import type { ShardsLeft } from './shards-left.ts'
import type { MarksBySource } from './source-usage.ts'

/**
 * The default number of marks per flush. A flushed workspace stays locked until the transaction ends. An UPDATE of it
 * by the application waits for that, up to about 30 ms with this batch on two cores. It is chosen by the measure
 * `application-latency`: larger batches show in the 99th percentile of such UPDATEs, and drain hardly faster.
 */
export const DEFAULT_BATCH_SIZE = 1_000

/** The largest `batchSize` that is accepted. */
export const MAX_BATCH_SIZE = 100_000

/** The default of `unknownAfterSeconds`: ten minutes. */
export const DEFAULT_UNKNOWN_AFTER_SECONDS = 600

const DEFAULT_TIMEOUT_SECONDS = 30

/** How much longer than the server we wait for an answer, in ms. So the server's own error comes first. */
export const ANSWER_GRACE_MS = 2_000

/** Options of {@link flush}. */
export interface FlushOptions {
  /**
   * The most marks to take, of each shard if the tables are distributed: an integer from 1 to {@link MAX_BATCH_SIZE}. Default {@link DEFAULT_BATCH_SIZE}. A larger
   * batch costs less per mark, but locks its workspaces for longer. Marks that were set aside come in addition, at most
   * as many.
   */
  batchSize?: number
  /**
   * Whether to write `workspace_usage`, the last use by source. Default true. False makes a flush cheaper. Then only
   * pending marks tell which source used a workspace.
   */
  sources?: boolean
  /**
   * Whether to write in which five minutes of which day a source used a workspace. Default true. False keeps the last use
   * alone, and needs `sources` as well.
   */
  history?: boolean
  /**
   * How long marks of a workspace that does not exist are kept, in seconds from the end of their period: 0 to 86,400.
   * Default {@link DEFAULT_UNKNOWN_AFTER_SECONDS}. The transaction that creates the workspace may still be open.
   */
  unknownAfterSeconds?: number
  /** Whether to take the oldest period first. Default false: the newest. */
  oldestFirst?: boolean
  /**
   * Seconds after which the server cancels a statement: 0.1 to 3,600. Default 30. If the server does not answer, the
   * connection is given up 2 seconds later.
   */
  timeoutSeconds?: number
}

/** What the options of {@link flush} may be. */
export const FLUSH_OPTIONS: OptionRules<FlushOptions> = {
  batchSize: integerWithin(1, MAX_BATCH_SIZE),
  sources: YES_OR_NO,
  history: YES_OR_NO,
  unknownAfterSeconds: numberWithin(0, 86_400, 'seconds'),
  oldestFirst: YES_OR_NO,
  timeoutSeconds: numberWithin(0.1, 3_600, 'seconds'),
}

/** The counts of one flush. */
export interface FlushResult {
  /** Marks that it consumed. They are deleted. */
  flushed: number
  /** Distinct workspaces of the consumed marks. Workspaces that do not exist do not count. */
  workspaces: number
  /** Rows of `workspaces` whose `last_used_at` moved forward. */
  updated: number
  /** Consumed marks of workspaces that do not exist: they were deleted, or never created. */
  unknown: number
  /** Marks that stay pending because another transaction holds their workspace. The next flush tries them again. */
  held: number
  /**
   * Marks that stay pending because their workspace does not exist yet. Each flush looks again, until they are
   * `unknownAfterSeconds` old. Then they are consumed as unknown.
   */
  awaited: number
  /** Marks that stay pending because the database refuses the update of their workspace. */
  refused: number
  /**
   * The consumed marks by source. The sum is `flushed`. Beyond the twenty sources with most marks, all others count as
   * `other`.
   */
  bySource: MarksBySource
  /** The workspaces that the database refused in this flush, and why. They are tried again after a growing pause. */
  refusals: Refusal[]
  /** Whether `pending_usage` was emptied since the last flush. Marks that were not flushed by then are lost. */
  emptied: boolean
  /** Why and since when marks are missing, if this flush is the first one after that. Else null. */
  reset: UsageReset | null
  /** Whether the batch was full. More marks of closed periods may be left then. */
  full: boolean
  /** The shards that could not be looked at, by node and reason. Only if the tables are distributed with Citus. */
  shardsLeft?: ShardsLeft[]
}

/** Options with their defaults. */
export type FlushSettings = Required<FlushOptions>

/**
 * Moves up to `batchSize` marks of closed periods into `workspaces` and `workspace_usage`. It is one statement, in a
 * transaction of its own. Inside a transaction of the caller it commits with that transaction.
 *
 * It waits at most 100 ms for a lock. If the database refuses a workspace, such as by a check or a trigger, the flush
 * sets its marks aside and flushes the others. Row security is off, so that no workspace is hidden from it.
 *
 * @param connection Where it runs: a pool, a Kysely instance, or one session. Nobody else may use that session
 *   meanwhile. The role needs what `workspace-usage grant --worker` gives.
 * @throws {InvalidOptionError} If an option is out of its range; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 * @throws {NotMigratedError} If a table of this package is missing.
 * @throws {StandbyError} On a standby, or in a read-only session.
 * @throws {RowSecurityError} If row security would hide rows from the role.
 * @throws {NoAnswerError} If the database does not answer in time.
 * @throws {NotCoordinatorError} If the tables are distributed, and this is not the coordinator.
 * @throws {NodeUnreachableError} If the tables are distributed, and no node answers.
 * @throws The database's error, with SQLSTATE 55P03, if a table is locked.
 */
export async function flush(connection: Connection, options: FlushOptions = {}): Promise<FlushResult> {
  checkOption('connection', connection, A_CONNECTION)
  checkOptions(options, FLUSH_OPTIONS)
  const settings = flushSettings(options)
  const deadlineMs = settings.timeoutSeconds * 1_000 + ANSWER_GRACE_MS
  return await onCoordinator(connection, () =>
    transactionOn(connection, deadlineMs, transaction => flushIn(transaction, settings)),
  )
}

async function flushIn(transaction: OpenTransaction, options: FlushSettings): Promise<FlushResult> {
  const { connection } = transaction
  const { reset, distributed, ...found } = await lookFirst(connection)
  const settings = { ...options, ...found }
  const restore = await prepare(transaction, settings.timeoutSeconds * 1_000)
  const result = await (distributed ? flushShards : flushWithin)(connection, settings)
  if (transaction.callers) await restore()
  return reset === null ? result : { ...result, emptied: result.emptied || reset.emptied, reset }
}

/** Fills in the defaults. */
export function flushSettings(options: FlushOptions): FlushSettings {
  const { batchSize = DEFAULT_BATCH_SIZE, oldestFirst = false, sources = true, history = true } = options
  const { unknownAfterSeconds = DEFAULT_UNKNOWN_AFTER_SECONDS } = options
  const { timeoutSeconds = DEFAULT_TIMEOUT_SECONDS } = options
  return { batchSize, sources, history, oldestFirst, unknownAfterSeconds, timeoutSeconds }
}
