import { type Kysely, sql } from 'kysely'

/*
 * The period of a mark comes from the clock at its row, not from the time of its statement. In a DO block, a procedure
 * or a trigger of a long statement, that time is long past. Such a mark got a period that had closed before the use.
 *
 * Why nothing else breaks. Call c the clock that is read for a row, and P the end of the period that it gets: c < P.
 *
 * - A flush takes the periods that end at or before the time f of its statement. If it takes P, then c < P <= f. So a
 *   mark whose clock is read after f is in a later period: marks go to the open period, and the flush takes closed ones.
 * - A statement or transaction may still be running when P ends. The flush does not see its rows then, and the next
 *   flush after its commit takes them: P is closed, and a row is taken for its age, not for being new.
 * - A mark may find its row stored already, and does nothing. That row has the same P, so the flush that takes it sets
 *   last_used_at to P or later, which is later than c, and c is later than the use. If a flush is just deleting that
 *   row, the mark waits for it and stores a new row: the next flush takes it.
 * - The rows of one statement may fall on both sides of the end of a period. A tracker asks for the period with the same
 *   statement, and its INSERT selects from the answer. So the answer is read before the clock of any row, every row is in
 *   that period or a later one, and repeats until the end of that period need no statement.
 *
 * The function is VOLATILE, as clock_timestamp() is. A STABLE function that calls it could not be inlined into the plan,
 * and would be a call for each row. Its argument-free form is parsed into the default of the column, so that a marker
 * still can't choose a period.
 *
 * The default of source is cut to the 63 characters that the column allows. From PostgreSQL 16 on, application_name
 * comes with each byte that is not ASCII as four characters, so seven Japanese characters are 84. Marks of such a
 * service failed. Sources that are given are checked as before.
 */

export async function up(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  await waitBriefly(db)
  await definePeriodEnd(db, 'VOLATILE', 'clock_timestamp')
  await sql`
    COMMENT ON FUNCTION ${sql.id(await functionSchema(db), 'usage_period_end')}() IS
      'End of the period that this moment falls in; always in the future. usage_period() is its length.'
  `.execute(db)
  await sql`
    ALTER TABLE ${sql.id(schema, 'pending_usage')} ALTER COLUMN source
      SET DEFAULT pg_catalog.left(coalesce(nullif(pg_catalog.current_setting('application_name'), ''), 'unknown'), 63)
  `.execute(db)
}

export async function down(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  await waitBriefly(db)
  await definePeriodEnd(db, 'STABLE', 'statement_timestamp')
  await sql`
    COMMENT ON FUNCTION ${sql.id(await functionSchema(db), 'usage_period_end')}() IS
      'End of the period that the running statement falls in; always in the future. usage_period() is its length.'
  `.execute(db)
  await sql`
    ALTER TABLE ${sql.id(schema, 'pending_usage')} ALTER COLUMN source
      SET DEFAULT coalesce(nullif(pg_catalog.current_setting('application_name'), ''), 'unknown')
  `.execute(db)
}

/** The change of a default waits for transactions that have marked, and new marks wait behind it. */
async function waitBriefly(db: Kysely<never>): Promise<void> {
  await sql`SET LOCAL lock_timeout = '5s'`.execute(db)
}

/**
 * Defines usage_period_end() by a clock. The body is that of migration 0004. It is parsed here, once, so it calls the
 * usage_period() beside it, whatever search_path says later.
 */
async function definePeriodEnd(
  db: Kysely<never>,
  volatility: 'STABLE' | 'VOLATILE',
  clock: 'clock_timestamp' | 'statement_timestamp',
): Promise<void> {
  const length = sql`extract(epoch FROM ${sql.id(await lengthSchema(db), 'usage_period')}())::double precision * interval '1 second'`
  await sql`
    CREATE OR REPLACE FUNCTION ${sql.id(await functionSchema(db), 'usage_period_end')}() RETURNS timestamptz
    LANGUAGE sql ${sql.raw(volatility)} PARALLEL SAFE
    RETURN pg_catalog.date_bin(${length}, ${sql.id('pg_catalog', clock)}(), pg_catalog.to_timestamp(0)) + ${length}
  `.execute(db)
}

async function marksSchema(db: Kysely<never>): Promise<string> {
  const { rows } = await sql<{ schema: string }>`
    SELECT n.nspname AS schema
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = 'pending_usage'::regclass
  `.execute(db)
  return rows[0]!.schema
}

async function functionSchema(db: Kysely<never>): Promise<string> {
  const { rows } = await sql<{ schema: string }>`
    SELECT n.nspname AS schema
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.oid = 'usage_period_end()'::regprocedure
  `.execute(db)
  return rows[0]!.schema
}

/** The schema of the usage_period() that usage_period_end() calls. search_path may lead to another of that name. */
async function lengthSchema(db: Kysely<never>): Promise<string> {
  const { rows } = await sql<{ schema: string }>`
    SELECT n.nspname AS schema
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid AND p.proname = 'usage_period'
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = 'usage_period_end()'::regprocedure
      AND d.refclassid = 'pg_catalog.pg_proc'::regclass
  `.execute(db)
  return rows[0]!.schema
}
