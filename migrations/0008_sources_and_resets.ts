import { type Kysely, sql } from 'kysely'
import { marksSchema } from './0007_readers_see_all_or_an_error.ts'

/*
 * Two small tables that answer an operator's questions. The flush writes both.
 *
 * source_usage: is a source still there? A service that marks no more looks like workspaces that nobody uses. A source
 * that was seen every hour for a day, and then is not, deserves a look. So a row holds the last use, and since when
 * there was no gap of more than an hour. To forget a source, delete its row. Who uses something as a source that is not
 * one of few, such as an id, gets no more than 1,000 rows.
 *
 * pending_usage_reset: when was pending_usage emptied by a crash, and what had been flushed by then? Unlike the witness,
 * it survives the crash.
 */

const TABLES = ['source_usage', 'pending_usage_reset']

export async function up(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  await sql`
    CREATE TABLE ${sql.id(schema, 'source_usage')} (
      source text COLLATE "C" CONSTRAINT source_usage_pkey PRIMARY KEY,
      regular_since timestamptz NOT NULL,
      last_used_at timestamptz NOT NULL
    ) WITH (fillfactor = 50)
  `.execute(db)
  await sql`
    COMMENT ON TABLE ${sql.id(schema, 'source_usage')} IS
      'When each source was last flushed, and since when without a gap of more than an hour. Delete a row to forget a source.'
  `.execute(db)
  await sql`
    CREATE TABLE ${sql.id(schema, 'pending_usage_reset')} (
      noticed_at timestamptz CONSTRAINT pending_usage_reset_pkey PRIMARY KEY,
      flushed_until timestamptz
    )
  `.execute(db)
  await sql`
    COMMENT ON TABLE ${sql.id(schema, 'pending_usage_reset')} IS
      'When a flush noticed that a crash or a promotion had emptied pending_usage. Marks between the two times may be lost.'
  `.execute(db)
  await grantToWorkers(db, schema)
}

export async function down(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  for (const table of TABLES) await sql`DROP TABLE ${sql.id(schema, table)}`.execute(db)
}

/** Workers must go on flushing after this migration. */
async function grantToWorkers(db: Kysely<never>, schema: string): Promise<void> {
  for (const role of await workerRoles(db)) {
    await sql`
      GRANT SELECT, INSERT, UPDATE, DELETE ON ${sql.id(schema, 'source_usage')} TO ${sql.id(role)}
    `.execute(db)
    await sql`GRANT SELECT, INSERT ON ${sql.id(schema, 'pending_usage_reset')} TO ${sql.id(role)}`.execute(db)
  }
}

/** Roles that may delete marks are workers. */
export async function workerRoles(db: Kysely<never>): Promise<string[]> {
  const { rows } = await sql<{ role: string }>`
    SELECT DISTINCT r.rolname AS role
    FROM pg_catalog.pg_class c
    CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS granted
    JOIN pg_catalog.pg_roles r ON r.oid = granted.grantee
    WHERE c.oid = 'pending_usage'::regclass AND granted.privilege_type = 'DELETE' AND r.oid <> c.relowner
  `.execute(db)
  return rows.map(({ role }) => role)
}
