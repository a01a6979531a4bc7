import { type Kysely, type RawBuilder, sql } from 'kysely'
import { SHARD_WITNESS } from '../database/distributed.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { regclass } from './names.ts'

/*
 * A row for each shard of marks. PostgreSQL empties it together with the marks of that shard, so where it is missing,
 * marks were lost. Its id is no workspace: it is one that falls into that shard.
 */

/** Random ids that are tried at once, for each shard. Mostly each shard has one among them. */
const CANDIDATES = 20

/** What `workspace_id` can be where the tables are distributed. */
export type DistributableIdType = Exclude<WorkspaceIdType, 'text'>

const RANDOM: Record<DistributableIdType, RawBuilder<unknown>> = {
  uuid: sql`gen_random_uuid()`,
  bigint: sql`(random() * 9007199254740991)::bigint`,
  integer: sql`(random() * 2147483647)::integer`,
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

/** Gives each shard of the witness its row, where it has none. */
export async function fillShardWitness(
  db: Kysely<never>,
  schema: string,
  idType: DistributableIdType,
): Promise<void> {
  const witness = sql.id(schema, SHARD_WITNESS)
  const name = regclass(schema, SHARD_WITNESS)
  const shardOf = (id: RawBuilder<unknown>) =>
    sql`pg_catalog.get_shard_id_for_distribution_column(${name}, ${id})`
  const shards = await sql<{ count: string }>`
    SELECT count(*)::text AS count FROM pg_catalog.pg_dist_shard WHERE logicalrelid = ${name}
  `.execute(db)
  const count = Number(shards.rows[0]!.count)
  for (;;) {
    // Not one statement: Citus would ask each shard for the others.
    const present = await sql<{ id: string }>`SELECT workspace_id::text AS id FROM ${witness}`.execute(db)
    if (present.rows.length >= count) return
    await sql`
      INSERT INTO ${witness} (workspace_id)
      SELECT id FROM (
        SELECT DISTINCT ON (shard) id, shard
        FROM (SELECT id, ${shardOf(sql`id`)} AS shard FROM (
          SELECT ${RANDOM[idType]} AS id FROM generate_series(1, ${count * CANDIDATES}::integer)
        ) random) placed
        ORDER BY shard
      ) candidate
      WHERE shard NOT IN (
        SELECT ${shardOf(sql`id`)} FROM unnest(${present.rows.map(({ id }) => id)}::text[]::${sql.raw(idType)}[]) AS id
      )
    `.execute(db)
  }
}
