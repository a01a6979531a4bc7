import type { Queryable } from '../../src/database/connection.ts'

/** Creates `count` workspaces that were never used, and returns their ids, sorted. */
export async function createWorkspaces(db: Queryable, count: number): Promise<string[]> {
  const { rows } = await db.query('INSERT INTO workspaces SELECT FROM generate_series(1, $1) RETURNING id', [
    count,
  ])
  return (rows as { id: string }[]).map(({ id }) => id).sort()
}

/**
 * Stores marks of a period that has closed, as if they had been made then.
 * @param agoMs how long ago the period closed; default 1 s
 */
export async function storeClosedMarks(
  db: Queryable,
  ids: readonly string[],
  { agoMs = 1_000, source = 'test' }: { agoMs?: number; source?: string } = {},
): Promise<Date> {
  const { rows } = await db.query(
    `WITH period AS (SELECT clock_timestamp() - $2 * interval '1 ms' AS period_end),
    stored AS (
      INSERT INTO pending_usage (period_end, workspace_id, source)
      SELECT period_end, unnest($1::uuid[]), $3 FROM period
    )
    SELECT date_trunc('milliseconds', period_end) AS period_end FROM period`,
    [ids, agoMs, source],
  )
  return (rows[0] as { period_end: Date }).period_end
}

/** `last_used_at` of the workspaces, in the order of the ids. */
export async function lastUsedAt(db: Queryable, ids: readonly string[]): Promise<(Date | null)[]> {
  const { rows } = await db.query(
    `SELECT date_trunc('milliseconds', last_used_at) AS last_used_at
    FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted (id, place) LEFT JOIN workspaces USING (id) ORDER BY place`,
    [ids],
  )
  return (rows as { last_used_at: Date | null }[]).map(row => row.last_used_at)
}

/** How many marks are pending, of whatever period. */
export async function pendingCount(db: Queryable): Promise<number> {
  const { rows } = await db.query('SELECT count(*)::int AS pending FROM pending_usage')
  return (rows[0] as { pending: number }).pending
}
