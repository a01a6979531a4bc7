import { type Kysely, type RawBuilder, sql } from 'kysely'
import { SHARD_WITNESS } from '../database/distributed.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { regclass } from './names.ts'

/*
 * A row for each shard of marks. PostgreSQL empties it together with the marks of that shard, so where it is missing,
 * marks were lost. Its id is no workspace: it is one that falls into that shard.
 */

/** So many ids are tried for each shard that all are hit: one in e^50 is missed. */
const CANDIDATES = 50

/** What `workspace_id` can be where the tables are distributed. */
export type DistributableIdType = Exclude<WorkspaceIdType, 'text'>

/** Ids by number. They are the same for everybody, so two flushes do not both put a row back. */
const NUMBERED: Record<DistributableIdType, RawBuilder<unknown>> = {
  uuid: sql`pg_catalog.md5(number::text)::uuid`,
  bigint: sql`number::bigint`,
  integer: sql`number::integer`,
}

/** Creates the table, without rows. It is UNLOGGED if the marks are. */
export async function createShardWitness(
  db: Kysely<never>,
  schema: string,
  idType: DistributableIdType,
): Promise<void> {
  const witness = sql.id(schema, SHARD_WITNESS)
  const { rows } = await sql<{ persistence: string }>`
    SELECT CASE relpersistence WHEN 'u' THEN 'UNLOGGED' ELSE '' END AS persistence
    FROM pg_catalog.pg_class WHERE oid = ${regclass(schema, 'pending_usage')}
  `.execute(db)
  await sql`
    CREATE ${sql.raw(rows[0]!.persistence)} TABLE ${witness} (workspace_id ${sql.raw(idType)} PRIMARY KEY)
  `.execute(db)
  await sql`
    COMMENT ON TABLE ${witness} IS
      'A row for each shard. Where one is missing, the marks of that shard were lost; the next flush says so and puts it back.'
  `.execute(db)
}

/** Gives each shard its row. There are none yet. */
export async function fillShardWitness(
  db: Kysely<never>,
  schema: string,
  idType: DistributableIdType,
): Promise<void> {
  await witnessRows(sql.id(schema, SHARD_WITNESS), regclass(schema, 'pending_usage'), idType).execute(db)
}

/**
 * The statement that gives shards their rows. It returns those that were missing.
 *
 * @param witness SQL of the table.
 * @param marks SQL of the table of marks, as a regclass.
 * @param shardIds Those of some shards of the marks. Default: of all.
 */
export function witnessRows(
  witness: RawBuilder<unknown>,
  marks: RawBuilder<unknown>,
  idType: DistributableIdType,
  shardIds: readonly string[] | null = null,
): RawBuilder<unknown> {
  return sql`
    INSERT INTO ${witness} (workspace_id)
    SELECT id FROM (
      SELECT DISTINCT ON (shard) id, shard
      FROM (
        SELECT id, number, pg_catalog.get_shard_id_for_distribution_column(${marks}, id) AS shard
        FROM (
          SELECT number, ${NUMBERED[idType]} AS id
          FROM generate_series(1, ${CANDIDATES} * (
            SELECT count(*) FROM pg_catalog.pg_dist_shard WHERE logicalrelid = ${marks}
          )) AS number
        ) AS numbered
      ) AS candidate
      WHERE ${shardIds}::bigint[] IS NULL OR shard = ANY (${shardIds}::bigint[])
      ORDER BY shard, number
    ) AS found
    ON CONFLICT DO NOTHING
    RETURNING workspace_id`
}
