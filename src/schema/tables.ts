import type { Generated } from 'kysely'

/**
 * The tables and views of this package, for a host that queries them with Kysely: `Kysely<HostTables & UsageSchema>`.
 * Times are `Date`s, as `pg` parses `timestamptz`. `Id` is the type of an id as the driver parses it: `string` for uuid,
 * text and bigint, `number` for integer.
 */
export interface UsageSchema<Id = string> {
  pending_usage: PendingUsageTable<Id>
  workspace_usage: WorkspaceUsageTable<Id>
  workspace_activity: WorkspaceActivityView<Id>
  workspace_activity_by_source: WorkspaceActivityBySourceView<Id>
  workspace_usage_daily: WorkspaceUsageDailyView<Id>
  workspaces: WorkspacesTable<Id>
}

/** Marks that are not flushed yet. Insert `workspace_id`, and a `source` if you like. The database sets the rest. */
export interface PendingUsageTable<Id = string> {
  /** End of the period in which the mark was stored, by the database's clock. */
  period_end: Generated<Date>
  workspace_id: Id
  /** Who says so. Default: the connection's `application_name`, or `unknown` where that is empty. */
  source: Generated<string>
}

/** When each source last used each workspace. Only the flush writes it. */
export interface WorkspaceUsageTable<Id = string> {
  workspace_id: Id
  source: string
  last_used_at: Date
}

/** One row per workspace. Pending usage is included. */
export interface WorkspaceActivityView<Id = string> {
  workspace_id: Id
  /** Null if the workspace was never used. Never in the future. */
  last_used_at: Date | null
  /** The source of that last use. Null if the workspace was never used, or if the source is not known. */
  source: string | null
  /** Whether that last use is still pending. `workspaces.last_used_at` does not show it then. */
  pending: boolean
}

/** One row per workspace and source. Pending usage is included. */
export interface WorkspaceActivityBySourceView<Id = string> {
  workspace_id: Id
  source: string
  /** Never in the future. */
  last_used_at: Date
  /** Whether that last use is still pending. */
  pending: boolean
}

/** One row per workspace, source and day of UTC. Pending usage is included. */
export interface WorkspaceUsageDailyView<Id = string> {
  workspace_id: Id
  /** As the driver parses a `date`. */
  day: Date
  source: string
  /** In whole slots of five minutes. */
  minutes_used: number
  first_used_at: Date
  last_used_at: Date
  /** A character for each slot of the day, from midnight on: `1` if it was used. */
  slots: string
}

/** The columns that this package needs. A host's own table may have more. */
export interface WorkspacesTable<Id = string> {
  id: Generated<Id>
  /** End of the last period in which the workspace was marked. Null if it was never used. Only the flush writes it. */
  last_used_at: Date | null
}
