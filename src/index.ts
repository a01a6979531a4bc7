/**
 * workspace-usage: know when each workspace was last used.
 *
 * Marking: {@link UsageTracker} for services, {@link markUsage} for one-off calls and transactions. Flushing:
 * {@link startFlushWorker} on a schedule, {@link flush} and {@link drain} by hand. Reading: {@link explainUsage},
 * {@link idleWorkspaces}. Deployment: {@link migrate}, {@link grantPrivileges}.
 */

export type { Clock } from './clock.ts'
export type { Connection, KyselyExecutor, Queryable } from './connection.ts'
export { type DrainOptions, type DrainResult, drain } from './drain.ts'
export * from './errors.ts'
export { explainUsage, type SourceUsage, type UsageExplanation } from './explain.ts'
export {
  DEFAULT_BATCH_SIZE,
  type FlushOptions,
  type FlushPosition,
  type FlushResult,
  flush,
  MAX_BATCH_SIZE,
} from './flush.ts'
export { grantPrivileges, revokePrivileges } from './grant.ts'
export { DEFAULT_IDLE_PAGE_SIZE, type IdleOptions, type IdleWorkspace, idleWorkspaces } from './idle.ts'
export { type FlushWorker, type FlushWorkerOptions, type QueueInstallation, startFlushWorker } from './job.ts'
export type { Logger } from './logger.ts'
export { insertPendingUsage, type MarkOptions, type MarkResult, markUsage } from './mark.ts'
export { type MigrateOptions, type MigrateResult, migrate, migrateDown } from './migrate.ts'
export type { ConnectionPool, PooledClient } from './pool.ts'
export { type Duty, explainPrivilegeError } from './privilege-error.ts'
export { privilegeStatements, type RoleDuties } from './privileges.ts'
export {
  FAILED_FLUSH_QUEUE,
  FLUSH_QUEUE,
  type FlushJobOutput,
  type LastFlush,
  lastFlush,
} from './queue.ts'
export type {
  PendingUsageTable,
  UsageSchema,
  WorkspaceActivityBySourceView,
  WorkspaceActivityView,
  WorkspacesTable,
  WorkspaceUsageTable,
} from './schema.ts'
export { openPeriodRemaining, type PendingStatus, pendingStatus } from './status.ts'
export {
  type CloseOptions,
  type CloseResult,
  UsageTracker,
  type UsageTrackerOptions,
  type UsageTrackerStats,
} from './tracker.ts'
export { canonicalWorkspaceId } from './workspace-id.ts'
