import { type Connection, execute, type Statement } from '../database/connection.ts'
import { isDistributed } from '../database/distributed.ts'

/** How the tables are distributed with Citus. */
export interface Distribution {
  /** The shards of each table. */
  shards: number
  /** The nodes that hold them. */
  nodes: number
}

/** Tells how the tables are distributed. Null if they are not. */
export async function distributionOf(connection: Connection): Promise<Distribution | null> {
  if (!(await isDistributed(connection))) return null
  const statement: Statement<{ shards: string; nodes: string }> = {
    sql: `SELECT count(DISTINCT s.shardid)::text AS shards, count(DISTINCT p.groupid)::text AS nodes
      FROM pg_catalog.pg_dist_shard s JOIN pg_catalog.pg_dist_placement p USING (shardid)
      WHERE s.logicalrelid = 'pending_usage'::pg_catalog.regclass`,
    parameters: [],
  }
  const { rows } = await execute(connection, statement)
  return { shards: Number(rows[0]!.shards), nodes: Number(rows[0]!.nodes) }
}
