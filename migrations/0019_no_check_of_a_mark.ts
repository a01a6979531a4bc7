import { type Kysely, type RawBuilder, sql } from 'kysely'
import { whileNothingReadsSources } from '../src/schema/emptied-dependants.ts'
import { marksSchema } from './0007_readers_see_all_or_an_error.ts'

/*
 * A mark of one row becomes nearly as cheap as an INSERT into a table with nothing but a key.
 *
 * PostgreSQL prepares a CHECK anew in every statement. That was a fifth of the time of such a mark. So the type bounds the
 * length of a source, and costs nothing. Who gives a longer one is refused with SQLSTATE 22001, but blanks at the end are
 * cut. An empty source is refused by our code only. From other writers it is a source like any other.
 *
 * The order of sources is that of "C", because the order of a language costs at each place of the index that is looked
 * at. The cast in the default cuts what is longer, as left() did.
 */

export async function up(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  await whileNothingReadsSources(db, schema, () =>
    retype(
      db,
      schema,
      sql`
        DROP CONSTRAINT IF EXISTS pending_usage_source_length,
        ALTER COLUMN source TYPE varchar(63) COLLATE pg_catalog."C",
        ALTER COLUMN source SET DEFAULT
          coalesce(nullif(pg_catalog.current_setting('application_name'), ''), 'unknown')::varchar(63)`,
    ),
  )
}

/** An empty source becomes "unknown". Of two marks that are the same then, one stays. */
export async function down(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  const [marks, setAside] = tablesOf(schema)
  await whileNothingReadsSources(db, schema, async () => {
    await sql`
      INSERT INTO ${marks} (period_end, workspace_id, source)
      SELECT period_end, workspace_id, 'unknown' FROM ONLY ${marks} WHERE source = '' ON CONFLICT DO NOTHING
    `.execute(db)
    await sql`
      INSERT INTO ${setAside} (period_end, workspace_id, source, reason, next_attempt_at, used_from)
      SELECT period_end, workspace_id, 'unknown', reason, next_attempt_at, used_from FROM ${setAside} WHERE source = ''
      ON CONFLICT DO NOTHING
    `.execute(db)
    await sql`DELETE FROM ${marks} WHERE source = ''`.execute(db)
    await retype(
      db,
      schema,
      sql`
        ALTER COLUMN source TYPE text COLLATE pg_catalog."default",
        ALTER COLUMN source SET DEFAULT
          pg_catalog.left(coalesce(nullif(pg_catalog.current_setting('application_name'), ''), 'unknown'), 63),
        ADD CONSTRAINT pending_usage_source_length CHECK (char_length(source) BETWEEN 1 AND 63)`,
    )
  })
}

function tablesOf(schema: string): [marks: RawBuilder<unknown>, setAside: RawBuilder<unknown>] {
  return [sql.id(schema, 'pending_usage'), sql.id(schema, 'set_aside_usage')]
}

/**
 * Changes the column in both tables: one inherits from the other. The keys are made anew, and NOT NULL with them, because
 * PostgreSQL 18 fails to keep a NOT NULL whose name is not the same in both.
 */
async function retype(db: Kysely<never>, schema: string, change: RawBuilder<unknown>): Promise<void> {
  const [marks, setAside] = tablesOf(schema)
  const key = sql`PRIMARY KEY (period_end, workspace_id, source)`
  await sql`ALTER TABLE ${setAside} DROP CONSTRAINT set_aside_usage_pkey`.execute(db)
  await sql`
    ALTER TABLE ${marks} DROP CONSTRAINT pending_usage_pkey, ALTER COLUMN source DROP NOT NULL
  `.execute(db)
  await sql`ALTER TABLE ${setAside} ALTER COLUMN source DROP NOT NULL`.execute(db)
  await sql`
    ALTER TABLE ${marks} ${change}, ALTER COLUMN source SET NOT NULL, ADD CONSTRAINT pending_usage_pkey ${key}
  `.execute(db)
  await sql`ALTER TABLE ${setAside} ADD CONSTRAINT set_aside_usage_pkey ${key}`.execute(db)
}
