import type { ClusterDatabase } from './cluster-database.ts'

/** The ids, by the worker that holds their shard, in the order of the workers. */
export async function idsByWorker(
  { pool, cluster }: ClusterDatabase,
  ids: readonly string[],
): Promise<string[][]> {
  const { rows } = await pool.query<{ node: string; ids: string[] }>(
    `SELECT n.nodename || ':' || n.nodeport AS node, array_agg(id::text ORDER BY id) AS ids
    FROM unnest($1::uuid[]) AS id JOIN pg_dist_placement p ON p.shardid = get_shard_id_for_distribution_column('workspaces', id) JOIN pg_dist_node n USING (groupid)
    GROUP BY 1`,
    [ids],
  )
  const found = new Map(rows.map(({ node, ids }) => [node, ids]))
  return cluster.workers.map(({ host, port }) => found.get(`${host}:${port}`) ?? [])
}
