import { COORDINATOR_TABLES, IGNORED_SOURCE, SHARD_WITNESS } from '../database/distributed.ts'
import type { UsageLayout } from './layout.ts'
import { type Privilege, WHOLE } from './privilege.ts'

/*
 * What duties need beside, where the tables are distributed with Citus. A query runs on each node as the role that asks,
 * also through a view. And a shard that is moved keeps the privileges on the table, but not those on its columns.
 */

/** The same actions, each on the whole table, if it has shards. */
export function onWholeTable(name: string, actions: Privilege['actions']): Privilege['actions'] {
  if (COORDINATOR_TABLES.includes(name)) return actions
  return Object.fromEntries(Object.keys(actions).map(action => [action, WHOLE]))
}

/** What a worker needs to flush shards. */
export function onShards(layout: UsageLayout): Privilege[] {
  if (!layout.distributed) return []
  const schema = layout.pending_usage
  return [
    {
      on: { kind: 'table', schema, name: SHARD_WITNESS },
      actions: { SELECT: WHOLE, INSERT: WHOLE, UPDATE: WHOLE },
    },
    { on: { kind: 'table', schema, name: IGNORED_SOURCE }, actions: { SELECT: WHOLE } },
    {
      on: { kind: 'procedure', schema, name: 'usage_on_shards', arguments: 'jsonb, text, jsonb' },
      actions: { EXECUTE: WHOLE },
    },
    {
      on: { kind: 'function', schema, name: 'lock_usage_shards', arguments: '' },
      actions: { EXECUTE: WHOLE },
    },
  ]
}

/** What the views read. */
const SHOWN = [
  'workspaces',
  'pending_usage',
  'set_aside_usage',
  'workspace_usage',
  'workspace_usage_day',
] as const

/** What a reader needs to query the views. */
export function onEachNode(layout: UsageLayout): Privilege[] {
  if (!layout.distributed) return []
  const tables = [
    ...SHOWN.map(name => ({ name, schema: layout[name] })),
    { name: IGNORED_SOURCE, schema: layout.pending_usage },
  ]
  return [
    ...[...new Set(tables.map(({ schema }) => schema))].map(
      (schema): Privilege => ({ on: { kind: 'schema', schema }, actions: { USAGE: WHOLE }, stays: true }),
    ),
    ...tables.map(
      ({ name, schema }): Privilege => ({
        on: { kind: 'table', schema, name },
        actions: { SELECT: WHOLE },
      }),
    ),
  ]
}
