import { type Connection, execute } from '../database/connection.ts'
import { checkOptions, integerWithin, type OptionRules, whatever, YES_OR_NO } from '../options.ts'
import { type FlushPosition, type FlushRow, flushStatement } from './statement.ts'

export type { FlushPosition } from './statement.ts'

/**
 * Marks per flush by default. A workspace that is flushed stays locked until the transaction ends, and an application's
 * own UPDATE of it waits as long: with this batch about 50 ms on two cores.
 */
export const DEFAULT_BATCH_SIZE = 1_500

/** The largest `batchSize` that is accepted. */
export const MAX_BATCH_SIZE = 100_000

/** Options of {@link flush}. */
export interface FlushOptions {
  /**
   * Marks to take at most: an integer from 1 to {@link MAX_BATCH_SIZE}. Default {@link DEFAULT_BATCH_SIZE}. Larger
   * batches cost less per mark and lock their workspaces for longer.
   */
  batchSize?: number
  /**
   * Whether to keep `workspace_usage`, the last use by source. Default true. False makes a flush cheaper; then only
   * the marks that are still pending tell who used a workspace.
   */
  sources?: boolean
  /** Takes only marks behind this one in flush order: {@link FlushResult.resume} of the batch before. Default null. */
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

/** What one flush did, in counts. `flushed + held` is what it found due, at most `batchSize`. */
export interface FlushResult {
  /** Marks consumed: deleted from `pending_usage`. */
  flushed: number
  /** Distinct workspaces among the marks consumed. Those that do not exist do not count. */
  workspaces: number
  /** Rows of `workspaces` whose `last_used_at` moved forward. */
  updated: number
  /** Marks consumed whose workspace does not exist (deleted, or never created). */
  unknown: number
  /** Marks left pending because another transaction holds their workspace; the next flush takes them. */
  held: number
  /** Whether the batch was full, so that more may be due. */
  full: boolean
  /**
   * Where the next flush of a drain goes on; null if it may start from the top. It may not if marks were held: those
   * come first in flush order, and a batch full of them would find nothing else.
   */
  resume: FlushPosition | null
}

/**
 * Moves up to `batchSize` marks of closed periods into `workspaces` and `workspace_usage`: one statement, which never
 * waits for another transaction. Run by itself it is its own transaction; inside one, it commits with that.
 *
 * @param connection Where the statement runs; the role needs what `workspace-usage grant --worker` gives.
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
