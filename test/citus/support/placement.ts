import type { Queryable } from '../../../src/database/connection.ts'

/** Those of the workspaces whose shard is on the node with this port. */
export async function idsOn(db: Queryable, ids: readonly string[], port: number): Promise<string[]> {
  const { rows } = await db.query(
    `SELECT id FROM unnest($1::uuid[]) AS id
    JOIN pg_dist_shard_placement p ON p.shardid = get_shard_id_for_distribution_column('pending_usage', id)
    WHERE p.nodeport = $2 ORDER BY id`,
    [ids, port],
  )
  return (rows as { id: string }[]).map(({ id }) => id)
}
