import { type Kysely, sql } from 'kysely'
import { marksSchema } from './0007_readers_see_all_or_an_error.ts'

/**
 * A source may not count: a poller or a dashboard that marks by accident. It is on record then, and keeps no workspace
 * alive.
 */
export async function up(db: Kysely<never>): Promise<void> {
  const table = sql.id(await marksSchema(db), 'source_usage')
  await sql`ALTER TABLE ${table} ADD COLUMN counts boolean NOT NULL DEFAULT true`.execute(db)
  // The views read them with each query. Mostly there is none.
  await sql`CREATE INDEX source_usage_ignored ON ${table} (source) WHERE NOT counts`.execute(db)
  await sql`
    COMMENT ON COLUMN ${table}.counts IS
      'Whether its marks keep a workspace alive. Change it with "workspace-usage sources ignore" and "sources count".'
  `.execute(db)
}

export async function down(db: Kysely<never>): Promise<void> {
  await sql`ALTER TABLE ${sql.id(await marksSchema(db), 'source_usage')} DROP COLUMN counts`.execute(db)
}
