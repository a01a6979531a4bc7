import type { Generated } from 'kysely'

/**
 * The tables of this package for a host that queries them with Kysely: `Kysely<HostTables & UsageSchema>`.
 * Times are `Date`s, as `pg` parses `timestamptz`.
 */
export interface UsageSchema {
  pending_usage: PendingUsageTable
  workspace_usage: WorkspaceUsageTable
  workspace_activity: WorkspaceActivityView
  workspace_activity_by_source: WorkspaceActivityBySourceView
  workspaces: WorkspacesTable
}

/** Marks that are not flushed yet. Insert `workspace_id` and perhaps `source`; everything else is the database's. */
export interface PendingUsageTable {
  /** End of the period in which the mark fell, by the database's clock. */
  period_end: Generated<Date>
  workspace_id: string
  /** Who says so; `application_name` of the connection if left out. */
  source: Generated<string>
}

/** When each source last used each workspace. Written by the flush only. */
export interface WorkspaceUsageTable {
  workspace_id: string
  source: string
  last_used_at: Date
}

/** One row per workspace, pending use included. */
export interface WorkspaceActivityView {
  workspace_id: string
  /** null: never used. Never in the future. */
  last_used_at: Date | null
  /** The source of that last use; null if never used or not known. */
  source: string | null
  /** Whether that last use is still pending, so that `workspaces.last_used_at` does not show it yet. */
  pending: boolean
}

/** One row per workspace and source, pending use included. */
export interface WorkspaceActivityBySourceView {
  workspace_id: string
  source: string
  /** Never in the future. */
  last_used_at: Date
  /** Whether that last use is still pending. */
  pending: boolean
}

/** The least that a host's own table has; every other column is the host's. */
export interface WorkspacesTable {
  id: Generated<string>
  /** End of the last period in which the workspace was marked; null: never used. Written by the flush only. */
  last_used_at: Date | null
}
