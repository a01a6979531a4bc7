/**
 * workspace-usage/mark: all that a service needs which only marks.
 *
 * {@link UsageTracker} for services, {@link markUsage} for one-off calls and transactions. The main entry exports the
 * same classes and functions, beside much else. This one loads no pg-boss, Kysely, pino or command line.
 */

export type { Connection, KyselyExecutor, Queryable, Statement } from '../database/connection.ts'
export {
  InvalidOptionError,
  InvalidSourceError,
  InvalidWorkspaceIdError,
  MarksNotStoredError,
  NotMigratedError,
  StandbyError,
  UnknownOptionError,
  WorkspaceUsageError,
} from '../errors.ts'
export type { Logger } from '../logger.ts'
export { canonicalWorkspaceId } from '../workspace-id.ts'
export { insertPendingUsage, type MarkOptions, type MarkResult, markUsage } from './mark.ts'
export {
  type CloseOptions,
  type CloseResult,
  UsageTracker,
  type UsageTrackerOptions,
  type UsageTrackerStats,
} from './tracker.ts'
