import type pg from 'pg'
import type { ClusterDatabase } from './cluster-database.ts'

/** Moves the shards of some workspaces to another node. Rows of UNLOGGED tables are copied while writes wait. */
export async function moveShard(client: pg.Client, { cluster }: ClusterDatabase): Promise<void> {
  const { rows } = await client.query<{ shard: string; host: string; port: number }>(
    `SELECT p.shardid::text AS shard, p.nodename AS host, p.nodeport AS port
    FROM pg_dist_shard_placement p JOIN pg_dist_shard USING (shardid)
    WHERE logicalrelid = 'pending_usage'::regclass ORDER BY random() LIMIT 1`,
  )
  const { shard, host, port } = rows[0]!
  const to = cluster.workers.find(worker => worker.host !== host || worker.port !== port)!
  await client.query("SELECT citus_move_shard_placement($1, $2, $3, $4, $5, 'block_writes')", [
    shard,
    host,
    port,
    to.host,
    to.port,
  ])
}
