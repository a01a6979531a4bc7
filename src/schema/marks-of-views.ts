import { type Kysely, type RawBuilder, sql } from 'kysely'
import { SOURCE_OF_MARK } from '../database/source-of-mark.ts'

/* The marks as the views read them: by the periods in which there are any. */

/** From so many dead rows on, the views look at what a flush has noted. Migration 0009 has the same number. */
const MANY_DEAD = 50_000

/** The function that tells the periods then. */
const NOTED_PERIODS = 'noted_usage_periods'

/**
 * A function, so that a query is not planned with all of that view: it would take a third of the time of a lookup. It is
 * SQL and parsed here, so it names nothing when it runs. What it reads is open to all, and tells nothing but times.
 */
export async function createNotedPeriods(db: Kysely<never>, schema: string): Promise<void> {
  const notedPeriods = sql`${sql.id(schema, NOTED_PERIODS)}()`
  await sql`
    CREATE OR REPLACE FUNCTION ${notedPeriods} RETURNS timestamptz[]
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN ARRAY (SELECT period_end FROM ${sql.id(schema, 'pending_usage_period')})
  `.execute(db)
  await sql`
    COMMENT ON FUNCTION ${notedPeriods} IS
      'The periods of pending_usage_period. The views call it if there are many dead marks.'
  `.execute(db)
  // A host may have revoked EXECUTE from PUBLIC.
  await sql`GRANT EXECUTE ON FUNCTION ${notedPeriods} TO PUBLIC`.execute(db)
}

export async function dropNotedPeriods(db: Kysely<never>, schema: string): Promise<void> {
  await sql`DROP FUNCTION IF EXISTS ${sql.id(schema, NOTED_PERIODS)}()`.execute(db)
}

/**
 * The periods in which there are marks, as an array that is made once for a query. Mostly there are few dead marks. Then
 * it is the loose index scan of migration 0003, which takes a tenth of a millisecond.
 */
function pendingPeriods(schema: string): RawBuilder<unknown> {
  const marks = sql.id(schema, 'pending_usage')
  return sql`(
      SELECT CASE
        WHEN pg_catalog.pg_stat_get_dead_tuples('pending_usage'::pg_catalog.regclass) >= ${sql.lit(MANY_DEAD)}
          THEN ${sql.id(schema, NOTED_PERIODS)}()
        ELSE ARRAY (
          WITH RECURSIVE period (period_end) AS (
            (SELECT u.period_end FROM ONLY ${marks} u ORDER BY u.period_end LIMIT 1)
            UNION ALL
            SELECT next.period_end
            FROM period CROSS JOIN LATERAL (
              SELECT u.period_end FROM ONLY ${marks} u
              WHERE u.period_end > period.period_end
              ORDER BY u.period_end LIMIT 1
            ) next
          )
          SELECT period_end FROM period
        )
      END
    )::timestamptz[]`
}

/** The views show the same, whatever type pending_usage has. */
const SOURCE = sql.raw(SOURCE_OF_MARK)

/** All marks: `workspace_id`, `period_end`, `source`, `used_from`, and whether they are of a use until a time ahead. */
export function marksOf(schema: string): RawBuilder<unknown> {
  return sql`
    SELECT workspace_id, period_end, ${SOURCE}, NULL::timestamptz AS used_from, false AS until
    FROM ONLY ${sql.id(schema, 'pending_usage')}
    WHERE period_end = ANY (${pendingPeriods(schema)})
    UNION ALL
    ${setAsideMarks(schema)}`
}

/**
 * The same where the tables are distributed. Citus allows no recursion there. So the marks of one workspace are found by
 * an index of its ids, and all marks in one scan of each shard.
 */
export function distributedMarksOf(schema: string): RawBuilder<unknown> {
  return sql`
    SELECT workspace_id, period_end, ${SOURCE}, NULL::timestamptz AS used_from, false AS until
    FROM ${sql.id(schema, 'pending_usage')}
    UNION ALL
    ${setAsideMarks(schema)}`
}

function setAsideMarks(schema: string): RawBuilder<unknown> {
  return sql`SELECT workspace_id, period_end, ${SOURCE}, used_from, reason = 'until'::text
    FROM ${sql.id(schema, 'set_aside_usage')}`
}
