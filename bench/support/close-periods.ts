import type pg from 'pg'

/**
 * Makes all pending marks marks of one period that has closed, so that a flush takes them. A mark of the same workspace
 * and source in two periods becomes one.
 */
export async function closePeriods(pool: Pick<pg.Pool, 'query'>): Promise<void> {
  await pool.query(`
    CREATE UNLOGGED TABLE bench_marked AS SELECT DISTINCT workspace_id, source FROM ONLY pending_usage;
    TRUNCATE ONLY pending_usage;
    INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT clock_timestamp() - interval '1 ms', workspace_id, source FROM bench_marked;
    DROP TABLE bench_marked`)
}
