import { sql } from 'kysely'
import { executeSql } from '../database/compile.ts'
import type { Connection } from '../database/connection.ts'
import { SHARD_WITNESS } from '../database/distributed.ts'
import { milliseconds } from '../flush/settings.ts'

/** A node of the cluster, as the coordinator reaches it. */
export interface Node {
  name: string
  port: number
}

/** Shards of the tables of a flush that hold the same workspaces, and stand on one node. */
export interface Shard {
  /** The id of the shard of `pending_usage`. */
  id: string
  node: Node
  /** What each table is called there, in the schema of the table. */
  tables: Record<string, { schema: string; name: string }>
}

/** How long the coordinator may take to connect to a node, in ms. Without an answer, all other shards would wait. */
const CONNECT_TIMEOUT_MS = 5_000

/** The tables of a flush. */
const TABLES = [
  'pending_usage',
  SHARD_WITNESS,
  'refused_usage',
  'set_aside_usage',
  'workspace_usage_day',
  'workspaces',
]

/** A node for messages, such as `10.0.0.7:5432`. */
export function addressOf({ name, port }: Node): string {
  return `${name}:${port}`
}

/** Lists where the tables are. */
async function shardsOf(connection: Connection): Promise<Shard[]> {
  const { rows } = await executeSql(
    connection,
    sql<{ shards: string }>`
      WITH placed AS MATERIALIZED (
        SELECT named.name, s.shardid, s.shardminvalue, p.groupid, nspname,
          parse_ident(pg_catalog.shard_name(s.logicalrelid, s.shardid)) AS shard
        FROM unnest(${TABLES}::text[]) AS named (name)
        JOIN pg_catalog.pg_dist_shard s ON s.logicalrelid = named.name::regclass
        JOIN pg_catalog.pg_dist_placement p USING (shardid)
        JOIN pg_catalog.pg_class c ON c.oid = s.logicalrelid::oid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      )
      SELECT coalesce(json_agg(json_build_object(
        'id', marks.shardid::text,
        'node', json_build_object('name', nodename, 'port', nodeport),
        'tables', (
          SELECT json_object_agg(name, json_build_object('schema', nspname, 'name', shard[cardinality(shard)]))
          FROM placed
          WHERE groupid = marks.groupid AND shardminvalue = marks.shardminvalue
        )
      ) ORDER BY marks.shardid), '[]')::text AS shards
      FROM placed AS marks
      JOIN pg_catalog.pg_dist_node USING (groupid)
      WHERE name = 'pending_usage' AND noderole = 'primary'`,
  )
  return JSON.parse(rows[0]!.shards) as Shard[]
}

/** The shards for one flush. */
export interface TakenShards {
  /** All of them, and those that Citus is not moving just now. */
  all: Shard[]
  shards: Shard[]
  /** Whether no other flush tries refused workspaces. Two would forget what the other one has found. */
  retries: boolean
}

/**
 * Keeps Citus from moving shards until the transaction ends: what a flush does on a shard while it is being moved would
 * be lost. Shards that are being moved are left out.
 */
export async function takeShards(coordinator: Connection): Promise<TakenShards> {
  const { rows } = await executeSql(
    coordinator,
    sql<{ ids: string; first: string }>`
      SELECT array_to_json(lock_usage_shards())::text AS ids,
        set_config('citus.node_connection_timeout', least(
          ${CONNECT_TIMEOUT_MS}, ${milliseconds('citus.node_connection_timeout')}
        )::text, true),
        pg_try_advisory_xact_lock(hashtext('workspace-usage'), hashtext('retries'))::text AS first`,
  )
  const { ids, first } = rows[0]!
  const locked = new Set((JSON.parse(ids) as number[]).map(String))
  const all = await shardsOf(coordinator)
  return { all, shards: all.filter(({ id }) => locked.has(id)), retries: first === 'true' }
}
