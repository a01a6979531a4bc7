import { type Kysely, sql } from 'kysely'
import { LOCK_TIMEOUT_MS, milliseconds } from '../flush/settings.ts'
import { regclass } from './names.ts'

/** Raised to undo a statement, and caught at once. */
const UNDO = 'WU001'

/**
 * Creates what a flush calls on a cluster, or replaces it. Citus takes the procedure to all nodes.
 *
 * @param db The coordinator.
 * @param schema That of our tables.
 */
export async function createShardProcedures(db: Kysely<never>, schema: string): Promise<void> {
  await createProcedure(db, schema)
  await createLock(db, schema)
}

/**
 * One call for each node takes less than half of the time of a command for each shard. Each statement is a transaction
 * of its own. If one fails, its error is told and the others go on. What the host has set for the role or the database
 * does not matter.
 *
 * A statement whose row says `undo` is rolled back. The frames of a function of the host in the context of an error tell
 * that it was raised there.
 */
async function createProcedure(db: Kysely<never>, schema: string): Promise<void> {
  await sql`
    CREATE OR REPLACE PROCEDURE ${sql.id(schema, 'usage_on_shards')}(
      statements jsonb, path text, INOUT answers jsonb DEFAULT '[]'
    )
    LANGUAGE plpgsql AS $$
    DECLARE
      statement text;
      answer jsonb;
      rows jsonb;
      one record;
      state text;
      message text;
      context text;
    BEGIN
      FOR i IN 0 .. pg_catalog.jsonb_array_length(statements) - 1 LOOP
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        PERFORM pg_catalog.set_config('search_path', path, true),
          pg_catalog.set_config('row_security', 'off', true), pg_catalog.set_config('jit', 'off', true),
          pg_catalog.set_config('enable_seqscan', 'off', true),
          pg_catalog.set_config('lock_timeout', least(
            ${sql.lit(LOCK_TIMEOUT_MS)}, ${milliseconds('lock_timeout')}, greatest(1, ${milliseconds('deadlock_timeout')} / 2)
          )::text, true);
        statement := statements ->> i;
        BEGIN
          rows := '[]';
          FOR one IN EXECUTE statement LOOP
            rows := rows || pg_catalog.jsonb_build_array(pg_catalog.to_jsonb(one));
          END LOOP;
          answer := pg_catalog.jsonb_build_object('rows', rows);
          IF rows #> '{0,undo}' = 'true' THEN
            RAISE EXCEPTION USING ERRCODE = '${sql.raw(UNDO)}';
          END IF;
        EXCEPTION
          WHEN SQLSTATE '${sql.raw(UNDO)}' THEN
            NULL;
          WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, context = PG_EXCEPTION_CONTEXT;
            context := pg_catalog.split_part(context, 'usage_on_shards(', 1);
            answer := pg_catalog.jsonb_build_object('state', state, 'message', message, 'within',
              pg_catalog.regexp_count(pg_catalog.replace(context, statement, ''), E'\n')
                > (pg_catalog.strpos(context, statement) > 0)::integer);
        END;
        answers := answers || pg_catalog.jsonb_build_array(answer);
      END LOOP;
      COMMIT;
    END
    $$
  `.execute(db)
  await sql`
    COMMENT ON PROCEDURE ${sql.id(schema, 'usage_on_shards')}(jsonb, text, jsonb) IS
      'Runs statements of a flush on shards of this node, each in a transaction of its own. Called by the flush only.'
  `.execute(db)
}

/** The metadata of shards is locked with the rights of the owner. A shard that is being moved is left out. */
async function createLock(db: Kysely<never>, schema: string): Promise<void> {
  const marks = regclass(schema, 'pending_usage')
  await sql`
    CREATE OR REPLACE FUNCTION ${sql.id(schema, 'lock_usage_shards')}() RETURNS bigint[]
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms'
    AS $$
    DECLARE
      shard bigint;
      locked bigint[] := '{}';
    BEGIN
      FOR shard IN
        SELECT shardid FROM pg_dist_shard WHERE logicalrelid = ${marks} ORDER BY shardid
      LOOP
        BEGIN
          -- As each INSERT through Citus locks it (ShareLock).
          PERFORM lock_shard_metadata(5, ARRAY[shard]);
          locked := locked || shard;
        EXCEPTION WHEN lock_not_available THEN
          NULL;
        END;
      END LOOP;
      RETURN locked;
    END
    $$
  `.execute(db)
  // It runs with the rights of the owner. The duty of a worker has it.
  await sql`REVOKE ALL ON FUNCTION ${sql.id(schema, 'lock_usage_shards')}() FROM PUBLIC`.execute(db)
  await sql`
    COMMENT ON FUNCTION ${sql.id(schema, 'lock_usage_shards')}() IS
      'Keeps shards of pending_usage from being moved until the transaction ends, and tells which. Called by the flush only.'
  `.execute(db)
}
