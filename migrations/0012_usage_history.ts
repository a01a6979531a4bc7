import { type Kysely, sql } from 'kysely'
import { marksSchema } from './0007_readers_see_all_or_an_error.ts'
import { workerRoles } from './0008_sources_and_resets.ts'

/*
 * The history of use: a row for each workspace, source and day, with a bit for each five minutes.
 *
 * The flush writes these rows in place of those of workspace_usage, so it writes no more rows than before. A row of the
 * day is a row of workspace_usage too, because the table is its child. Whoever reads workspace_usage reads both. Rows of
 * before stay in workspace_usage itself, and so do those of an older worker, which needs its key of two columns.
 *
 * What a row holds is a union (bits), a minimum and a maximum. So it comes out the same in whatever order batches are
 * flushed. After an outage the newest come first.
 */

/** Five minutes each. Bit 0 begins at midnight UTC. */
export const SLOTS_OF_A_DAY = 288

export async function up(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  const day = sql.id(schema, 'workspace_usage_day')
  const usage = await usageTable(db)
  await sql`
    CREATE TABLE ${day} (
      day date NOT NULL,
      first_used_at timestamptz NOT NULL,
      slots bit(${sql.lit(SLOTS_OF_A_DAY)}) NOT NULL,
      CONSTRAINT workspace_usage_day_pkey PRIMARY KEY (workspace_id, source, day)
    ) INHERITS (${sql.id(usage.schema, 'workspace_usage')}) WITH (fillfactor = 75)
  `.execute(db)
  if (usage.references) {
    const { schema: of, table, column } = usage.references
    await sql`
      ALTER TABLE ${day} ADD CONSTRAINT workspace_usage_day_workspace_id_fkey
        FOREIGN KEY (workspace_id) REFERENCES ${sql.id(of, table)} (${sql.id(column)}) ON DELETE CASCADE
    `.execute(db)
  }
  // Days come one after the other, so this small index finds those that are over. It is not touched by an update.
  await sql`
    CREATE INDEX workspace_usage_day_day ON ${day} USING brin (day) WITH (pages_per_range = 32, autosummarize = on)
  `.execute(db)
  await sql`
    COMMENT ON TABLE ${day} IS
      'In which five minutes of a day (UTC) each source used each workspace, as flushed. A child of workspace_usage. Written by the flush only.'
  `.execute(db)
  await sql`COMMENT ON COLUMN ${day}.slots IS 'Bit n (from 0): used in the five minutes from n * 5 minutes after midnight UTC.'`.execute(
    db,
  )
  for (const role of await workerRoles(db)) {
    await sql`GRANT SELECT, INSERT, UPDATE, DELETE ON ${day} TO ${sql.id(role)}`.execute(db)
    await sql`GRANT EXECUTE ON FUNCTION ${sql.id(schema, 'usage_period')}() TO ${sql.id(role)}`.execute(db)
    await sql`GRANT DELETE ON ${sql.id(usage.schema, 'workspace_usage')} TO ${sql.id(role)}`.execute(db)
  }
}

/** The last use by each source stays. The history goes. */
export async function down(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  const usage = sql.id((await usageTable(db)).schema, 'workspace_usage')
  await sql`
    INSERT INTO ${usage} AS u (workspace_id, source, last_used_at)
    SELECT workspace_id, source, max(last_used_at) FROM ${sql.id(schema, 'workspace_usage_day')}
    GROUP BY workspace_id, source
    ON CONFLICT (workspace_id, source) DO UPDATE SET last_used_at = excluded.last_used_at
    WHERE u.last_used_at < excluded.last_used_at
  `.execute(db)
  await sql`DROP TABLE ${sql.id(schema, 'workspace_usage_day')}`.execute(db)
}

/** Where workspace_usage is, and what its foreign key refers to. A host whose table can't be referred to has none. */
async function usageTable(db: Kysely<never>): Promise<{
  schema: string
  references: { schema: string; table: string; column: string } | null
}> {
  const { rows } = await sql<{ schema: string; of: string | null; table: string; column: string }>`
    SELECT n.nspname AS schema, fn.nspname AS of, f.relname AS "table", a.attname AS "column"
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f'
    LEFT JOIN pg_catalog.pg_class f ON f.oid = k.confrelid
    LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = k.confkey[1]
    WHERE c.oid = 'workspace_usage'::regclass
    LIMIT 1
  `.execute(db)
  const { schema, of, table, column } = rows[0]!
  return { schema, references: of === null ? null : { schema: of, table, column } }
}
