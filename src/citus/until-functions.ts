import { type Kysely, type RawBuilder, sql } from 'kysely'
import { qualified } from '../database/schema-path.ts'
import type { DistributableIdType } from './shard-witness.ts'

/*
 * mark_usage_until() and end_usage_until() where the tables are distributed. Citus plans no statement there that reads
 * and writes the marks of a workspace at once, other than one that deletes. So the steps of migration 0014 are statements
 * of their own, each of one shard. Their text is parsed at each first call, so it names the schema.
 */

const APPLICATION =
  "pg_catalog.left(coalesce(nullif(pg_catalog.current_setting('application_name'), ''), 'unknown'), 63)"

/** Replaces both functions, on all nodes. What is granted on them stays. */
export async function createUntilFunctions(
  db: Kysely<never>,
  schema: string,
  idType: DistributableIdType,
): Promise<void> {
  const of = (name: string) => qualified(schema, name)
  const id = sql.raw(idType)
  const create = async (head: RawBuilder<unknown>, body: string) =>
    await sql`
      CREATE OR REPLACE FUNCTION ${head}
      LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
      AS ${sql.lit(body)}
    `.execute(db)
  const mark = sql.id(schema, 'mark_usage_until')
  await create(
    sql`${mark}(workspace_id ${id}, until timestamptz, source text DEFAULT NULL) RETURNS timestamptz`,
    markBody(of),
  )
  await sql`REVOKE ALL ON FUNCTION ${mark}(${id}, timestamptz, text) FROM PUBLIC`.execute(db)
  const end = sql.id(schema, 'end_usage_until')
  await create(
    sql`${end}(workspace_id ${id}, source text DEFAULT NULL, every_source boolean DEFAULT false) RETURNS bigint`,
    endBody(of),
  )
  await sql`REVOKE ALL ON FUNCTION ${end}(${id}, text, boolean) FROM PUBLIC`.execute(db)
}

function markBody(of: (name: string) => string): string {
  const setAside = of('set_aside_usage')
  return `
#variable_conflict use_column
DECLARE
  said constant text := coalesce($3, ${APPLICATION});
  present constant timestamptz := ${of('refuse_usage_until')}($2, ${of('usage_until_limit')}(), said);
  since timestamptz;
BEGIN
  INSERT INTO ${of('pending_usage')} (workspace_id, source) VALUES ($1, said) ON CONFLICT DO NOTHING;
  WITH replaced AS (
    DELETE FROM ${setAside} u
    WHERE u.workspace_id = $1 AND u.ctid = ANY (ARRAY (
      SELECT h.ctid FROM ${setAside} h
      WHERE h.workspace_id = $1 AND h.source = said AND h.reason = 'until' AND h.period_end > present AND h.period_end < $2
      FOR UPDATE SKIP LOCKED
    ))
    RETURNING u.used_from
  )
  SELECT min(used_from) INTO since FROM replaced;
  IF NOT EXISTS (
    SELECT FROM ${setAside} u
    WHERE u.workspace_id = $1 AND u.source = said AND u.reason = 'until' AND u.period_end >= $2
  ) THEN
    INSERT INTO ${setAside} (period_end, workspace_id, source, reason, next_attempt_at, used_from)
    VALUES ($2, $1, said, 'until', $2, least(present, since)) ON CONFLICT DO NOTHING;
  END IF;
  RETURN (
    SELECT max(u.period_end) FROM ${setAside} u
    WHERE u.workspace_id = $1 AND u.source = said AND u.reason = 'until'
  );
END`
}

function endBody(of: (name: string) => string): string {
  const setAside = of('set_aside_usage')
  return `
#variable_conflict use_column
DECLARE
  said constant text := coalesce($2, ${APPLICATION});
  present constant timestamptz := clock_timestamp();
  ended record;
BEGIN
  WITH removed AS (
    DELETE FROM ${setAside} u
    WHERE u.workspace_id = $1 AND u.ctid = ANY (ARRAY (
      SELECT h.ctid FROM ${setAside} h
      WHERE h.workspace_id = $1 AND h.reason = 'until' AND h.period_end > present
        AND (coalesce($3, false) OR h.source = said)
      FOR UPDATE SKIP LOCKED
    ))
    RETURNING u.source, u.used_from
  )
  SELECT array_agg(source::text) AS sources, array_agg(used_from) AS since INTO ended FROM removed;
  FOR i IN 1..coalesce(cardinality(ended.sources), 0) LOOP
    INSERT INTO ${setAside} (period_end, workspace_id, source, reason, next_attempt_at, used_from)
    VALUES (present, $1, ended.sources[i], 'until', present, ended.since[i]) ON CONFLICT DO NOTHING;
  END LOOP;
  RETURN coalesce(cardinality(ended.sources), 0);
END`
}
