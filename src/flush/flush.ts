import { type Connection, execute } from '../database/connection.ts'
import { checkOptions, integerWithin, type OptionRules, whatever, YES_OR_NO } from '../options.ts'
import { type FlushPosition, type FlushRow, flushStatement } from './statement.ts'

export type { FlushPosition } from './statement.ts'

/**
 * The default number of marks per flush. A flushed workspace stays locked until the transaction ends. An UPDATE of it
 * by the application waits for that, up to about 50 ms with this batch on two cores.
 */
export const DEFAULT_BATCH_SIZE = 1_500

/** The largest `batchSize` that is accepted. */
export const MAX_BATCH_SIZE = 100_000

/** Options of {@link flush}. */
export interface FlushOptions {
  /**
   * The most marks to take: an integer from 1 to {@link MAX_BATCH_SIZE}. Default {@link DEFAULT_BATCH_SIZE}. A larger
   * batch costs less per mark, but locks its workspaces for longer.
   */
  batchSize?: number
  /**
   * Whether to write `workspace_usage`, the last use by source. Default true. False makes a flush cheaper. Then only
   * pending marks tell which source used a workspace.
   */
  sources?: boolean
  /**
   * Takes only marks that follow this one in flush order. Pass {@link FlushResult.resume} of the batch before. Default
   * null.
   */
  resume?: FlushPosition | null
}

/** What the options of {@link flush} may be. */
export const FLUSH_OPTIONS: OptionRules<FlushOptions> = {
  batchSize: integerWithin(1, MAX_BATCH_SIZE),
  sources: YES_OR_NO,
  resume: whatever('what FlushResult.resume was, or null', value => value === null || isPosition(value)),
}

function isPosition(value: unknown): boolean {
  const { periodEnd, workspaceId, source }: Partial<FlushPosition> = Object(value)
  return [periodEnd, workspaceId, source].every(part => typeof part === 'string')
}

/** The counts of one flush. `flushed + held` is the number of marks that it took, at most `batchSize`. */
export interface FlushResult {
  /** Marks that it consumed. They are deleted from `pending_usage`. */
  flushed: number
  /** Distinct workspaces of the consumed marks. Workspaces that do not exist do not count. */
  workspaces: number
  /** Rows of `workspaces` whose `last_used_at` moved forward. */
  updated: number
  /** Consumed marks of workspaces that do not exist: they were deleted, or never created. */
  unknown: number
  /** Marks that stay pending because another transaction holds their workspace. The next flush tries them again. */
  held: number
  /** Whether the batch was full. More marks of closed periods may be left then. */
  full: boolean
  /**
   * Where the next flush of a drain goes on. Null if it may start from the beginning. After held marks it must not:
   * they come first in flush order, and could fill the next batch again.
   */
  resume: FlushPosition | null
}

/**
 * Moves up to `batchSize` marks of closed periods into `workspaces` and `workspace_usage`. It is one statement, and
 * never waits for another transaction. Inside a transaction of the caller it commits with that transaction.
 *
 * @param connection Where the statement runs. The role needs what `workspace-usage grant --worker` gives.
 * @throws {InvalidOptionError} If an option is out of its range; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 * @throws {NotMigratedError} If a table of this package is missing.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function flush(connection: Connection, options: FlushOptions = {}): Promise<FlushResult> {
  checkOptions(options, FLUSH_OPTIONS)
  const { batchSize = DEFAULT_BATCH_SIZE, sources = true, resume = null } = options
  const { rows } = await execute(connection, flushStatement(batchSize, sources, resume))
  const row = rows[0]!
  const { flushed, workspaces, updated, unknown, held } = row
  const full = flushed + held >= batchSize
  const goesOn = full && (held > 0 || resume !== null)
  return { flushed, workspaces, updated, unknown, held, full, resume: goesOn ? lastPosition(row) : null }
}

function lastPosition(row: FlushRow): FlushPosition | null {
  const { last_period_end: periodEnd, last_workspace_id: workspaceId, last_source: source } = row
  return periodEnd === null ? null : { periodEnd, workspaceId: workspaceId!, source: source! }
}
