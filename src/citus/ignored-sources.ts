import { type Kysely, sql } from 'kysely'
import { IGNORED_SOURCE } from '../database/distributed.ts'
import { regclass } from './names.ts'

/**
 * The table of sources is on the coordinator alone, because each flush writes it: with a copy on each node, none could
 * commit while one of them is down. But a query of one workspace goes to its node only if all that it reads is there. So
 * the sources that do not count, which rarely change, have a copy on each node. A trigger keeps it.
 */
export async function createIgnoredSources(db: Kysely<never>, schema: string): Promise<void> {
  const sources = sql.id(schema, 'source_usage')
  const ignored = sql.id(schema, IGNORED_SOURCE)
  const keep = sql.id(schema, 'keep_ignored_sources')
  await sql`
    CREATE TABLE IF NOT EXISTS ${ignored} (
      source varchar(63) COLLATE "C" CONSTRAINT ignored_source_pkey PRIMARY KEY
    )
  `.execute(db)
  await sql`COMMENT ON TABLE ${ignored} IS 'The sources that do not count, on each node. Kept by a trigger of source_usage.'`.execute(
    db,
  )
  await sql`SELECT pg_catalog.create_reference_table(${regclass(schema, IGNORED_SOURCE)})`.execute(db)
  await sql`SET LOCAL citus.enable_ddl_propagation = off`.execute(db)
  await sql`
    CREATE OR REPLACE FUNCTION ${keep}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
      IF TG_OP <> 'INSERT' AND NOT OLD.counts THEN
        DELETE FROM ${ignored} WHERE source = OLD.source;
      END IF;
      IF TG_OP <> 'DELETE' AND NOT NEW.counts THEN
        INSERT INTO ${ignored} (source) VALUES (NEW.source) ON CONFLICT DO NOTHING;
      END IF;
      RETURN NULL;
    END
    $$
  `.execute(db)
  await sql`
    CREATE OR REPLACE TRIGGER keep_ignored_sources AFTER INSERT OR UPDATE OF source, counts OR DELETE ON ${sources}
    FOR EACH ROW EXECUTE FUNCTION ${keep}()
  `.execute(db)
  await sql`SET LOCAL citus.enable_ddl_propagation = on`.execute(db)
  await sql`INSERT INTO ${ignored} SELECT source FROM ${sources} WHERE NOT counts ON CONFLICT DO NOTHING`.execute(
    db,
  )
}
