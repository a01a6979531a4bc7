/**
 * workspace-usage/mark: the entry for a service that only marks.
 *
 * {@link UsageTracker} is for services, {@link markUsage} for one-off calls and transactions. The main entry exports
 * the same classes and functions, and more. This entry loads no pg-boss, Kysely, pino or command line.
 *
 * Both report metrics to OpenTelemetry, if the program registers a meter provider. One that is registered after the
 * tracker was made is found with the next statement, which an active tracker sends in each period. The counters begin
 * with the process then, the histograms with the provider.
 */

export type { Connection, KyselyExecutor, Queryable, Statement } from '../database/connection.ts'
export { inSchema } from '../database/in-schema.ts'
export {
  InvalidOptionError,
  InvalidSourceError,
  InvalidWorkspaceIdError,
  MarksNotStoredError,
  NoAnswerError,
  NotMigratedError,
  StandbyError,
  UnknownOptionError,
  UntilOutOfRangeError,
  WorkspaceIdTypeError,
  WorkspaceUsageError,
} from '../errors.ts'
export type { Logger } from '../logger.ts'
export { canonicalWorkspaceId, type WorkspaceId, type WorkspaceIdType } from '../workspace-id.ts'
export {
  type InsertOptions,
  insertPendingUsage,
  type MarkOptions,
  type MarkResult,
  markUsage,
} from './mark.ts'
export {
  type CloseOptions,
  type CloseResult,
  UsageTracker,
  type UsageTrackerOptions,
  type UsageTrackerStats,
} from './tracker.ts'
export { type EndOptions, type EndResult, endUsage } from './until.ts'
