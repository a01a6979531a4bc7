/**
 * workspace-usage: know when each workspace was last used.
 *
 * Marking: {@link UsageTracker} for services, {@link markUsage} for one-off calls and transactions. Flushing:
 * {@link startFlushWorker} on a schedule, {@link flush} and {@link drain} by hand. Reading: {@link explainUsage},
 * {@link idleWorkspaces}. Stopping what is idle: {@link reapIdle}. Operation: {@link diagnose}. Deployment: {@link migrate}, {@link grantPrivileges}.
 *
 * A service that only marks imports `UsageTracker` and `markUsage` from `workspace-usage/mark`, with their types and
 * errors. That entry loads neither pg-boss nor Kysely.
 *
 * @module
 */

export { privilegeStatements, type RoleDuties } from './access/duties.ts'
export { grantPrivileges, revokePrivileges } from './access/grant.ts'
export { explainPrivilegeError } from './access/refusal.ts'
export { usageCompleteSince } from './activity/complete-since.ts'
export {
  type CountedSource,
  countSource,
  type IgnoredSource,
  ignoreSource,
  retireSource,
} from './activity/counting.ts'
export {
  type ExplainOptions,
  explainUsage,
  type SourceUsage,
  type UsageExplanation,
} from './activity/explain.ts'
export { type FailingFlushes, failingFlushes } from './activity/failing-flushes.ts'
export { type Health, type HealthOptions, usageHealth } from './activity/health.ts'
export { DEFAULT_MAX_LAG_SECONDS } from './activity/health-options.ts'
export {
  DEFAULT_BREAK_SECONDS,
  type HistoryOptions,
  type Since,
  type SourceHistory,
  type UsageHistory,
  type UsageInterval,
  usageHistory,
} from './activity/history.ts'
export { idleWorkspaces } from './activity/idle.ts'
export { type IdleForecast, type IdleForecastOptions, idleForecast } from './activity/idle-forecast.ts'
export { DEFAULT_IDLE_PAGE_SIZE, type IdleOptions } from './activity/idle-options.ts'
export type { IdleWorkspace } from './activity/idle-row.ts'
export { type LastFlush, lastFlush } from './activity/last-flush.ts'
export type { Problem, ProblemCode, Severity } from './activity/problem.ts'
export {
  DEFAULT_REFUSED_LIMIT,
  type RefusedOptions,
  type RefusedWorkspace,
  type RefusedWorkspaces,
  refusedWorkspaces,
} from './activity/refused.ts'
export { type UsageSource, usageSources } from './activity/sources.ts'
export { openPeriodRemaining, type PendingStatus, pendingStatus } from './activity/status.ts'
export type { Distribution } from './citus/distribution.ts'
export type { Connection, KyselyExecutor, Queryable, Statement } from './database/connection.ts'
export type { ConnectionPool, PooledClient } from './database/pool.ts'
export { workspaceIdType } from './database/workspace-id-type.ts'
export { type DiagnoseOptions, diagnose } from './doctor/diagnose.ts'
export type { Diagnosis, DoctorArea, DoctorCheck, Finding, FindingSeverity } from './doctor/finding.ts'
export * from './errors.ts'
export { type DrainOptions, type DrainResult, drain } from './flush/drain.ts'
export {
  DEFAULT_BATCH_SIZE,
  DEFAULT_UNKNOWN_AFTER_SECONDS,
  type FlushOptions,
  type FlushResult,
  flush,
  MAX_BATCH_SIZE,
} from './flush/flush.ts'
export type { Refusal } from './flush/refusal.ts'
export type { ResetReason, UsageReset } from './flush/reset.ts'
export type { ShardsLeft } from './flush/shards-left.ts'
export type { MarksBySource } from './flush/source-usage.ts'
export {
  type ClearedHistory,
  type ClearHistoryOptions,
  clearHistory,
  DEFAULT_HISTORY_DAYS,
} from './history/clear-history.ts'
export type { ImportRefusal, ImportRefusalCode, ImportRow } from './import/import-row.ts'
export {
  DEFAULT_IMPORT_BATCH_SIZE,
  DEFAULT_IMPORT_SOURCE,
  type ImportOptions,
  type ImportResult,
  importUsage,
} from './import/import-usage.ts'
export type { Logger } from './logger.ts'
// These come from the entry for markers. The build bundles that into one file, and both entries must export the same
// classes.
export {
  type CloseOptions,
  type CloseResult,
  canonicalWorkspaceId,
  type EndOptions,
  type EndResult,
  endUsage,
  type InsertOptions,
  inSchema,
  insertPendingUsage,
  type MarkOptions,
  type MarkResult,
  markUsage,
  UsageTracker,
  type UsageTrackerOptions,
  type UsageTrackerStats,
  type WorkspaceId,
  type WorkspaceIdType,
} from './mark/index.ts'
export type { OutcomeKind, ReapOutcome, ReapRefusal, ReapResult } from './reaper/outcome.ts'
export { reapIdle } from './reaper/reap-idle.ts'
export {
  DEFAULT_REAP_LIMIT,
  DEFAULT_REAPS_PER_MINUTE,
  DEFAULT_STOP_TIMEOUT_SECONDS,
  type IdleFacts,
  type ReapLimits,
  type ReapOptions,
  type ReapPolicy,
  type StopWorkspace,
} from './reaper/reap-options.ts'
export type { Adoption, AdoptionOptions } from './schema/adopt.ts'
export type { AdoptedTable } from './schema/adopted-table.ts'
export {
  type AdoptionWarning,
  type MigrateOptions,
  type MigrateResult,
  migrate,
  type SchemaOptions,
} from './schema/migrate.ts'
export { migrateDown } from './schema/migrate-down.ts'
export { DEFAULT_PERIOD_SECONDS, setUsagePeriod, usagePeriod } from './schema/period.ts'
export type {
  PendingUsageTable,
  UsageSchema,
  WorkspaceActivityBySourceView,
  WorkspaceActivityView,
  WorkspacesTable,
  WorkspaceUsageDailyView,
  WorkspaceUsageTable,
} from './schema/tables.ts'
export { type LeftBehind, type UninstallResult, uninstall } from './schema/uninstall.ts'
export { DEFAULT_UNTIL_LIMIT_SECONDS, usageUntilLimit } from './schema/until-limit.ts'
export type { Clock } from './worker/clock.ts'
export type {
  FailureEvent,
  FailureKind,
  FlushEvent,
  FlushHooks,
  Recovery,
  ResetEvent,
} from './worker/events.ts'
export type { QueueInstallation } from './worker/install-queue.ts'
export type { Liveness } from './worker/liveness.ts'
export {
  FAILED_FLUSH_QUEUE,
  FLUSH_QUEUE,
  type FlushJobOutput,
  type FlushQueues,
  flushQueues,
  REAP_QUEUE,
} from './worker/queue.ts'
export { type Reaper, type ReapJobOutput, startReaper } from './worker/reaper.ts'
export { DEFAULT_REAP_CRON, type ReaperOptions } from './worker/reaper-options.ts'
export { type FlushWorker, startFlushWorker } from './worker/worker.ts'
export type { FlushWorkerOptions } from './worker/worker-options.ts'
