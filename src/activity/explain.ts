import { A_CONNECTION, type Connection } from '../database/connection.ts'
import { checkOption, checkOptions, type OptionRules } from '../options.ts'
import type { WorkspaceId } from '../workspace-id.ts'
import { A_BREAK, DEFAULT_BREAK_SECONDS, type Since, sinceIn } from './history.ts'
import { readUsage, type SourceRows, type UsageRows } from './usage-rows.ts'

/** Options of {@link explainUsage}. */
export interface ExplainOptions {
  /** The longest break in a use that is told as one, in seconds: 300 to 86,400. Default 300. */
  breakSeconds?: number
}

const EXPLAIN_OPTIONS: OptionRules<ExplainOptions> = { breakSeconds: A_BREAK }

/** What keeps a workspace alive, at one moment. */
export interface UsageExplanation {
  /** The id that was asked for, in its canonical form: a UUID is in lower case. */
  workspaceId: string
  /**
   * Whether the workspace is in `workspaces`. If it is not, `sources` may still list pending marks of it.
   */
  exists: boolean
  /** When it was created. Null if it does not exist, or if the host's table does not tell. */
  createdAt: Date | null
  /**
   * The last use by any source that counts, pending usage included. Null if the workspace was never used. What some
   * hosts write for that counts as never: NULL, an infinity, and any time before 1970-01-02. It is in the future only if
   * something else than a flush wrote such a time.
   */
  lastUsedAt: Date | null
  /** Until when it is in use without further marks, by a source that counts. Null if it is not. */
  usedUntil: Date | null
  /**
   * The last use by each source that is on record, newest first. Empty if the workspace was never used.
   *
   * A use may lack its source: if flushes keep no sources, or if something else wrote `workspaces.last_used_at`. The
   * list may then be empty as well, or older than `lastUsedAt`.
   */
  sources: SourceUsage[]
  /** The time of the answer by the database's clock. Count ages from here. The clock of this machine may differ. */
  asOf: Date
}

/** The last use of a workspace by one source. */
export interface SourceUsage extends Since {
  source: string
  /** Never in the future: for usage in the open period it is {@link UsageExplanation.asOf}. */
  lastUsedAt: Date
  /** Whether that usage is not flushed yet. */
  pending: boolean
  /** Whether it keeps a workspace alive: see `workspace-usage sources ignore`. */
  counts: boolean
  /** Until when it uses the workspace without further marks. Null if it does not. */
  usedUntil: Date | null
}

/**
 * Tells which sources used a workspace, when, and since when without a break. Pending usage counts. All of it is read in
 * one statement, which sees a flush that runs at the same time as a whole or not at all.
 *
 * @param connection Where the statements run. The role needs what `workspace-usage grant --reader` gives.
 * @throws {InvalidOptionError} If an option is not allowed; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 * @throws {InvalidWorkspaceIdError} If the id is not one of the type that the database has.
 * @throws {NotMigratedError} If the views do not exist.
 * @throws {RowSecurityError} If row-level security may hide rows from the owner of the views.
 * @throws {StandbyError} On a standby.
 */
export async function explainUsage(
  connection: Connection,
  workspaceId: WorkspaceId,
  options: ExplainOptions = {},
): Promise<UsageExplanation> {
  checkOption('connection', connection, A_CONNECTION)
  checkOptions(options, EXPLAIN_OPTIONS)
  return explanationOf(await readUsage(connection, workspaceId), options)
}

/** The explanation in what was read. */
export function explanationOf(
  rows: UsageRows,
  { breakSeconds = DEFAULT_BREAK_SECONDS }: ExplainOptions,
): UsageExplanation {
  const { workspaceId, exists, createdAt, lastUsedAt, usedUntil, asOf } = rows
  const sinceOf = sinceIn(rows, breakSeconds)
  const sources = rows.sources.map(({ days, ...source }: SourceRows) => ({
    ...source,
    ...sinceOf({ ...source, days }),
  }))
  return { workspaceId, exists, createdAt, lastUsedAt, usedUntil, sources, asOf }
}
