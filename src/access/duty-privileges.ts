import { JOB_SCHEMA, type JobTable } from '../worker/queue.ts'
import type { UsageLayout } from './layout.ts'
import { type Privilege, WHOLE } from './privilege.ts'
import { onEachNode, onShards, onWholeTable } from './shard-privileges.ts'

/* What each duty needs, and no more. */

export function markerPrivileges(layout: UsageLayout): Privilege[] {
  const schema = layout.pending_usage
  return [
    usage(schema),
    onTable(layout, 'pending_usage', { INSERT: ['workspace_id', 'source'] }),
    // The default of period_end calls both functions as the marker. The host may have revoked EXECUTE from PUBLIC.
    ...['usage_period_end', 'usage_period'].map(name => onFunction(schema, name, '')),
  ]
}

const ROWS = { SELECT: WHOLE, INSERT: WHOLE, UPDATE: WHOLE, DELETE: WHOLE } as const

export function workerPrivileges(layout: UsageLayout, tables: JobTable[]): Privilege[] {
  return [
    ...[...new Set([layout.pending_usage, layout.workspace_usage, layout.workspaces])].map(usage),
    // SELECT … FOR UPDATE needs UPDATE on at least one column.
    onTable(layout, 'pending_usage', { SELECT: WHOLE, DELETE: WHOLE, UPDATE: ['source'] }),
    onTable(layout, 'pending_usage_witness', {
      SELECT: WHOLE,
      INSERT: WHOLE,
      UPDATE: ['flushed_at', 'counts', 'unsettled'],
    }),
    onTable(layout, 'set_aside_usage', ROWS),
    onTable(layout, 'refused_usage', ROWS),
    onTable(layout, 'source_usage', ROWS),
    onTable(layout, 'pending_usage_reset', { SELECT: WHOLE, INSERT: WHOLE }),
    onTable(layout, 'pending_usage_place', { SELECT: WHOLE, INSERT: WHOLE, UPDATE: WHOLE }),
    ...['usage_complete_since', 'pending_usage_server'].map(name =>
      onFunction(layout.pending_usage, name, ''),
    ),
    onTable(layout, 'workspaces', {
      // What nobody has locked is updated at once. A flush can do without. Older workers read ctid.
      SELECT: ['id', 'last_used_at', ...(layout.hasTable ? ['xmax', 'ctid'] : [])],
      UPDATE: ['last_used_at'],
    }),
    // Older workers write here. What is out of date is removed.
    onTable(layout, 'workspace_usage', {
      SELECT: WHOLE,
      INSERT: WHOLE,
      UPDATE: ['last_used_at'],
      DELETE: WHOLE,
    }),
    onTable(layout, 'workspace_usage_day', ROWS),
    ...['usage_period', 'usage_until_limit'].map(name => onFunction(layout.pending_usage, name, '')),
    ...onShards(layout),
    ...jobPrivileges(tables),
  ]
}

/** What any client of pg-boss needs. */
function jobPrivileges(tables: JobTable[]): Privilege[] {
  const schema = JOB_SCHEMA
  return [
    { on: { kind: 'schema', schema }, actions: { USAGE: WHOLE } },
    { on: { kind: 'every table', schema }, actions: { SELECT: WHOLE } },
    ...tables
      .filter(({ writes }) => writes.length > 0)
      .map(
        ({ name, writes }): Privilege => ({
          on: { kind: 'table', schema, name },
          actions: Object.fromEntries(writes.map(action => [action, WHOLE])),
        }),
      ),
    { on: { kind: 'every sequence', schema }, actions: { USAGE: WHOLE } },
    { on: { kind: 'every function', schema }, actions: { EXECUTE: WHOLE } },
  ]
}

export function readerPrivileges(layout: UsageLayout): Privilege[] {
  const views = ['workspace_activity', 'workspace_activity_by_source', 'workspace_usage_daily'] as const
  return [
    ...[...new Set(views.map(view => layout[view]))].map(usage),
    ...views.map(view => onTable(layout, view, { SELECT: WHOLE })),
    ...onEachNode(layout),
    // The views call them as the reader. The host may have revoked EXECUTE from PUBLIC.
    onFunction(layout.workspace_activity, 'no_hidden_usage', 'name, regclass[]'),
    onFunction(layout.workspace_activity, 'noted_usage_periods', ''),
    onFunction(layout.pending_usage, 'usage_complete_since', ''),
    onFunction(layout.pending_usage, 'usage_period', ''),
  ]
}

/** The tables that the checks of the verdict read. */
const CHECKED_TABLES = [
  'pending_usage',
  'pending_usage_witness',
  'set_aside_usage',
  'refused_usage',
  'source_usage',
  'pending_usage_reset',
] as const

export function reaperPrivileges(layout: UsageLayout, tables: JobTable[]): Privilege[] {
  return [
    ...readerPrivileges(layout),
    ...[...new Set([layout.pending_usage, layout.workspaces])]
      .filter(schema => schema !== layout.workspace_activity)
      .map(usage),
    onFunction(layout.pending_usage, 'usage_until_limit', ''),
    ...CHECKED_TABLES.map(name => onTable(layout, name, { SELECT: WHOLE })),
    // SELECT … FOR NO KEY UPDATE needs UPDATE on at least one column.
    onTable(layout, 'workspaces', { SELECT: ['id'], UPDATE: ['last_used_at'] }),
    onTable(layout, 'stopped_workspaces', ROWS),
    ...jobPrivileges(tables),
  ]
}

/** @param id The type of the ids, as PostgreSQL lists it. */
export function holderPrivileges(layout: UsageLayout, id: string): Privilege[] {
  const schema = layout.pending_usage
  return [
    usage(schema),
    onFunction(schema, 'mark_usage_until', `${id}, timestamp with time zone, text`),
    onFunction(schema, 'end_usage_until', `${id}, text, boolean`),
  ]
}

/** Without the rest of the layout, that is no name of a table. */
type TableName = Exclude<keyof UsageLayout, 'hasTable' | 'distributed'>

function usage(schema: string): Privilege {
  return { on: { kind: 'schema', schema }, actions: { USAGE: WHOLE }, stays: true }
}

function onTable(layout: UsageLayout, name: TableName, actions: Privilege['actions']): Privilege {
  const on = { kind: 'table', schema: layout[name], name } as const
  return { on, actions: layout.distributed ? onWholeTable(name, actions) : actions }
}

function onFunction(schema: string, name: string, types: string): Privilege {
  return { on: { kind: 'function', schema, name, arguments: types }, actions: { EXECUTE: WHOLE } }
}
