import { type Kysely, sql } from 'kysely'

/*
 * The length of a period becomes one value. usage_period() returns it, and usage_period_end() computes with it.
 *
 * usage_period() is STABLE although it returns a constant. If it were IMMUTABLE, PostgreSQL would put the constant into
 * a plan and forget the function. A prepared mark would then keep the old length. PostgreSQL copies a STABLE function
 * into the plan and remembers it, so after a change the next EXECUTE makes a new plan. A mark costs the same as before,
 * because neither function is called when the mark runs.
 */

export async function up(db: Kysely<never>): Promise<void> {
  const schema = await periodSchema(db)
  const usagePeriod = sql`${sql.id(schema, 'usage_period')}()`
  const usagePeriodEnd = sql`${sql.id(schema, 'usage_period_end')}()`
  await sql`
    CREATE FUNCTION ${usagePeriod} RETURNS interval
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN interval '30 seconds'
  `.execute(db)
  await sql`
    COMMENT ON FUNCTION ${usagePeriod} IS
      'Length of a period. Read or change it with "workspace-usage period"; marks already stored keep their period.'
  `.execute(db)
  await copyPrivileges(db, schema)

  // The body is parsed here, once. So it calls this usage_period(), whatever search_path says later. Periods are
  // counted from 1970-01-01 00:00:00Z. The arithmetic is in whole microseconds, so an end is exact, and at most one
  // length ahead. A length is counted in seconds, because adding a day or a month depends on TimeZone.
  const length = sql`extract(epoch FROM ${usagePeriod})::double precision * interval '1 second'`
  await sql`
    CREATE OR REPLACE FUNCTION ${usagePeriodEnd} RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.date_bin(${length}, pg_catalog.statement_timestamp(), pg_catalog.to_timestamp(0)) + ${length}
  `.execute(db)
  await sql`
    COMMENT ON FUNCTION ${usagePeriodEnd} IS
      'End of the period that the running statement falls in; always in the future. usage_period() is its length.'
  `.execute(db)
}

export async function down(db: Kysely<never>): Promise<void> {
  const schema = await periodSchema(db)
  const usagePeriodEnd = sql`${sql.id(schema, 'usage_period_end')}()`
  await sql`
    CREATE OR REPLACE FUNCTION ${usagePeriodEnd} RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
      SELECT pg_catalog.to_timestamp(
        (pg_catalog.floor(extract(epoch FROM pg_catalog.statement_timestamp()) / 30) + 1) * 30
      )
    $$
  `.execute(db)
  await sql`
    COMMENT ON FUNCTION ${usagePeriodEnd} IS
      'End of the period that the running statement falls in; always in the future. The length of a period is defined here only.'
  `.execute(db)
  await sql`DROP FUNCTION ${sql.id(schema, 'usage_period')}()`.execute(db)
}

/** The schema of usage_period_end(). It may differ from the one in which search_path creates new objects. */
async function periodSchema(db: Kysely<never>): Promise<string> {
  const { rows } = await sql<{ schema: string }>`
    SELECT n.nspname AS schema
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.oid = 'usage_period_end()'::regprocedure
  `.execute(db)
  return rows[0]!.schema
}

/** Grants usage_period() to all who may call usage_period_end(). A host may have revoked EXECUTE from PUBLIC. */
async function copyPrivileges(db: Kysely<never>, schema: string): Promise<void> {
  const { rows } = await sql<{ role: string | null }>`
    SELECT r.rolname AS role
    FROM pg_catalog.pg_proc p
    CROSS JOIN LATERAL pg_catalog.aclexplode(
      coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
    ) AS granted
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = granted.grantee
    WHERE p.oid = 'usage_period_end()'::regprocedure
  `.execute(db)
  const usagePeriod = sql`FUNCTION ${sql.id(schema, 'usage_period')}()`
  await sql`REVOKE ALL ON ${usagePeriod} FROM PUBLIC`.execute(db)
  for (const { role } of rows) {
    await sql`GRANT EXECUTE ON ${usagePeriod} TO ${role === null ? sql`PUBLIC` : sql.id(role)}`.execute(db)
  }
}
