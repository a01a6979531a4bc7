import type { Queryable } from '../../src/database/connection.ts'

/** A century in seconds: a period that does not end during a test. */
export const CENTURY = 100 * 365 * 86_400

/**
 * Gives the periods of a database any length, in seconds: also one that `setUsagePeriod` refuses, such as 0.02 for a
 * quick test, or `CENTURY` for a test that must stay in one period. Every mark after this falls into such a period.
 * Marks that are stored keep theirs.
 */
export async function setPeriodLength(db: Queryable, seconds: number): Promise<void> {
  await db.query(`
    CREATE OR REPLACE FUNCTION usage_period() RETURNS interval LANGUAGE sql STABLE PARALLEL SAFE
    RETURN interval '${seconds} seconds'`)
}
