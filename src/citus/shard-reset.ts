import { sql } from 'kysely'
import { executeSql } from '../database/compile.ts'
import type { Connection } from '../database/connection.ts'
import { asIsoText } from '../database/timestamp.ts'
import { resetOf, type UsageReset } from '../flush/reset.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { addressOf, type Shard } from './shards.ts'

/** So many candidates for each shard that all are hit: one in e^50 is missed. */
const CANDIDATES = 50

/** Ids by number. They are the same for everybody, so two flushes do not both put a witness back. */
const NUMBERED: Record<WorkspaceIdType, string> = {
  uuid: 'pg_catalog.md5(number::text)::uuid',
  bigint: 'number::bigint',
  integer: 'number::integer',
  text: 'number::text',
}

/**
 * Puts the witnesses of shards back that a crash of their nodes has emptied, and notes for good that marks were lost.
 *
 * @returns Null if there are none, or another flush has just done so.
 */
export async function noticeShardReset(
  coordinator: Connection,
  emptied: readonly Shard[],
  idType: WorkspaceIdType,
): Promise<UsageReset | null> {
  if (emptied.length === 0) return null
  const { rows: restored } = await executeSql(coordinator, restoreWitnesses(emptied, idType))
  if (restored.length === 0) return null
  const nodes = [...new Set(emptied.map(({ node }) => addressOf(node)))].toSorted()
  const { rows } = await executeSql(
    coordinator,
    sql<{ reset: string }>`
      WITH noticed AS (
        INSERT INTO pending_usage_reset (noticed_at, flushed_until, reason, nodes)
        SELECT clock_timestamp(), ${await flushedUntil(coordinator)}::timestamptz, 'crash', ${nodes}::text[]
        RETURNING noticed_at, flushed_until, reason, nodes
      )
      SELECT json_build_object(
        'reason', reason, 'completeSince', ${sql.raw(asIsoText('noticed_at'))},
        'flushedUntil', ${sql.raw(asIsoText('flushed_until'))}, 'emptied', true, 'nodes', nodes
      )::text AS reset
      FROM noticed`,
  )
  return resetOf(rows[0]!.reset)
}

/** One row for each shard of these. */
const restoreWitnesses = (emptied: readonly Shard[], idType: WorkspaceIdType) => sql`
  INSERT INTO pending_usage_shard_witness (workspace_id)
  SELECT id FROM (
    SELECT DISTINCT ON (shard) id, shard
    FROM (
      SELECT id, number, get_shard_id_for_distribution_column('pending_usage', id) AS shard
      FROM (
        SELECT number, ${sql.raw(NUMBERED[idType])} AS id
        FROM generate_series(1, ${CANDIDATES} * (
          SELECT count(*) FROM pg_catalog.pg_dist_shard WHERE logicalrelid = 'pending_usage'::regclass
        )) AS number
      ) AS numbered
    ) AS candidate
    WHERE shard = ANY (${emptied.map(({ id }) => id)}::bigint[])
    ORDER BY shard, number
  ) AS found
  ON CONFLICT DO NOTHING
  RETURNING workspace_id`

/** The table of the sources is on each node, so it is read by itself. */
async function flushedUntil(coordinator: Connection): Promise<string | null> {
  const { rows } = await executeSql(
    coordinator,
    sql<{ until: string | null }>`SELECT max(last_used_at)::text AS until FROM source_usage`,
  )
  return rows[0]!.until
}
