import { type Kysely, sql } from 'kysely'
import { SHARD_WITNESS } from '../database/distributed.ts'
import { quoteLiteral } from '../database/quote.ts'
import { qualified } from '../database/schema-path.ts'

/**
 * Replaces usage_complete_since() by one that also notices a shard whose marks were lost. What it reads is on the
 * coordinator only, so another node says that. Migration 0010 explains the rest of it. Citus does not plan it as one
 * statement, so it is PL/pgSQL, which is parsed at each first call.
 */
export async function createCompleteSince(db: Kysely<never>, schema: string): Promise<void> {
  await sql`
    CREATE OR REPLACE FUNCTION ${sql.id(schema, 'usage_complete_since')}() RETURNS timestamptz
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS ${sql.lit(body(name => qualified(schema, name)))}
  `.execute(db)
}

function body(of: (name: string) => string): string {
  const place = of('pending_usage_place')
  return `
DECLARE
  shards bigint;
  whole bigint;
  flushed boolean;
BEGIN
  IF NOT citus_is_coordinator() THEN
    RAISE feature_not_supported USING
      MESSAGE = 'only the coordinator of Citus knows since when marks are complete, and this node is a worker of it',
      HINT = 'Connect to the coordinator.';
  END IF;
  shards := (SELECT count(*) FROM pg_dist_shard s WHERE s.logicalrelid = ${quoteLiteral(of(SHARD_WITNESS))}::regclass);
  whole := (SELECT count(*) FROM ${of(SHARD_WITNESS)});
  flushed := EXISTS (SELECT FROM ${of('source_usage')});
  IF whole < shards OR NOT EXISTS (SELECT FROM ${of('pending_usage_witness')}) OR flushed AND EXISTS (
    SELECT FROM ${place} p
    WHERE p.noted AND (
      p.anchor <> (SELECT a.xmin::text FROM ${place} a WHERE NOT a.noted)
      OR p.database_oid <> (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    )
  ) THEN
    RETURN statement_timestamp();
  END IF;
  RETURN coalesce((SELECT max(r.noticed_at) FROM ${of('pending_usage_reset')} r), timestamptz '-infinity');
END`
}
