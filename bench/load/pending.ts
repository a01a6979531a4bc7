import type pg from 'pg'
import { SOURCE, withPool } from '../support/database.ts'

/**
 * Stores marks of the first workspaces of `shuffled`, as those of one source in a period that has just closed. Marks that
 * were there before are gone. A checkpoint comes last. So the drain that follows writes each page to the WAL as a whole
 * at its first change: the worst case.
 */
export async function storeClosedMarks(connectionString: string, count: number): Promise<void> {
  await withPool(connectionString, async pool => {
    await forgetMarks(pool)
    // Each call makes a period of its own, because a flush may pass by one that it has emptied.
    await pool.query(
      `INSERT INTO pending_usage (period_end, workspace_id, source)
      SELECT now() - interval '1 ms', id, $2 FROM shuffled WHERE place <= $1`,
      [count, SOURCE],
    )
    await pool.query('VACUUM (ANALYZE) pending_usage')
    await pool.query('CHECKPOINT')
  })
}

/** Removes all marks, also those that were set aside because the application held their workspace. */
export async function forgetMarks(pool: Pick<pg.Pool, 'query'>): Promise<void> {
  await pool.query('TRUNCATE ONLY pending_usage, ONLY set_aside_usage')
}
