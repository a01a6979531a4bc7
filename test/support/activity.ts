import assert from 'node:assert/strict'
import type { Queryable } from '../../src/database/connection.ts'

/** The one row of `workspace_activity` of a workspace, without its id. */
export async function activityOf(db: Queryable, id: string): Promise<unknown> {
  const { rows } = await db.query(
    `SELECT date_trunc('milliseconds', last_used_at) AS last_used_at, source, pending
    FROM workspace_activity WHERE workspace_id = $1`,
    [id],
  )
  assert.equal(rows.length, 1)
  return rows[0]
}
