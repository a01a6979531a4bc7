import { type Kysely, sql } from 'kysely'
import { idType } from './0001_pending_usage.ts'
import { AFTER, createViews, marksSchema } from './0007_readers_see_all_or_an_error.ts'
import { workerRoles } from './0008_sources_and_resets.ts'

/*
 * Flushes and views walk around dead marks.
 *
 * A flushed mark is a deleted row. While a transaction is open, such as a dump, VACUUM can't remove what was deleted
 * after its start, and an index scan visits each of these rows. Six million of them took more than two seconds, in a
 * flush that found nothing to do.
 *
 * So flushes note in which ranges of the key there may still be marks. src/flush/walk.ts explains how, and why no
 * mark is missed. The note is on the witness, so it is lost together with the marks. With few dead rows nobody needs it,
 * and everything is read.
 */

/** From so many dead rows on, the note counts. `src/flush/unsettled.ts` has the same number. */
const MANY_DEAD = 50_000

export async function up(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  const witness = sql.id(schema, 'pending_usage_witness')
  const marks = sql.id(schema, 'pending_usage')
  const periods = sql.id(schema, 'pending_usage_period')
  const { value: id, least } = await idType(db, 'pending_usage', 'workspace_id')
  const first = sql`${sql.lit(least)}::${id}`
  await sql`ALTER TABLE ${witness} ADD COLUMN unsettled jsonb`.execute(db)
  await sql`
    COMMENT ON COLUMN ${witness}.unsettled IS
      'In which ranges of their key there may be marks, as noted by a flush among many dead rows. See pending_usage_period.'
  `.execute(db)

  // The recursion is that of migration 0003, once for each range. A transaction that may store marks in a range that was
  // found empty is noted. When it has ended, the range counts again. Whoever has marked holds ROW EXCLUSIVE on the table
  // until then. After a restart of the server, another transaction may have the same name.
  await sql`
    CREATE VIEW ${periods} AS
    WITH RECURSIVE noted AS MATERIALIZED (
      SELECT unsettled FROM ${witness}
      WHERE pg_catalog.pg_stat_get_dead_tuples('pending_usage'::pg_catalog.regclass) >= ${sql.lit(MANY_DEAD)}
        AND unsettled ->> 'server' = extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text
        AND (unsettled ->> 'at')::timestamptz <= statement_timestamp()
    ), stored_late AS (
      SELECT min(coalesce(t.after, '-infinity'::timestamptz)) AS after
      FROM noted CROSS JOIN LATERAL jsonb_to_recordset(unsettled -> 'open') AS t (transaction text, after timestamptz)
      WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks l
        WHERE l.virtualtransaction = t.transaction AND l.mode = 'RowExclusiveLock'
          AND l.relation = 'pending_usage'::pg_catalog.regclass
      )
    ), unsettled_range (from_end, from_id, from_source, until_end) AS (
      SELECT '-infinity'::timestamptz, ${first}, ''::text, 'infinity'::timestamptz
      WHERE NOT EXISTS (SELECT FROM noted)
      UNION ALL
      SELECT (r.from ->> 0)::timestamptz, (r.from ->> 1)::${id}, r.from ->> 2,
        coalesce((r.until ->> 0)::timestamptz, 'infinity'::timestamptz)
      FROM noted CROSS JOIN LATERAL jsonb_to_recordset(unsettled -> 'ranges') AS r ("from" jsonb, until jsonb)
      UNION ALL
      SELECT after, ${first}, ''::text, 'infinity'::timestamptz FROM stored_late WHERE after IS NOT NULL
    ), period (period_end, until_end) AS (
      SELECT first.period_end, r.until_end
      FROM unsettled_range r CROSS JOIN LATERAL (
        SELECT u.period_end FROM ONLY ${marks} u
        WHERE (u.period_end, u.workspace_id, u.source) >= (r.from_end, r.from_id, r.from_source)
          AND u.period_end <= r.until_end
        ORDER BY u.period_end, u.workspace_id, u.source LIMIT 1
      ) first
      UNION ALL
      SELECT next.period_end, period.until_end
      FROM period CROSS JOIN LATERAL (
        SELECT u.period_end FROM ONLY ${marks} u
        WHERE u.period_end > period.period_end AND u.period_end <= period.until_end
        ORDER BY u.period_end LIMIT 1
      ) next
    )
    SELECT period_end FROM period
  `.execute(db)
  await sql`
    COMMENT ON VIEW ${periods} IS
      'The periods of the marks in pending_usage, without those that are set aside. A period may occur twice.'
  `.execute(db)
  // It tells nothing but times, and the views that read it may belong to any role.
  await sql`GRANT SELECT ON ${periods} TO PUBLIC`.execute(db)
  await createViews(db, schema, { ...AFTER, periods: sql`period AS (SELECT period_end FROM ${periods})` })
  await grantToWorkers(db, schema)
}

export async function down(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  await createViews(db, schema, AFTER)
  await sql`DROP VIEW ${sql.id(schema, 'pending_usage_period')}`.execute(db)
  await sql`ALTER TABLE ${sql.id(schema, 'pending_usage_witness')} DROP COLUMN unsettled`.execute(db)
}

/** Workers must go on flushing after this migration. */
async function grantToWorkers(db: Kysely<never>, schema: string): Promise<void> {
  for (const role of await workerRoles(db)) {
    await sql`
      GRANT UPDATE (unsettled) ON ${sql.id(schema, 'pending_usage_witness')} TO ${sql.id(role)}
    `.execute(db)
  }
}
