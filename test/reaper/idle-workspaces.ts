import type { Queryable } from '../../src/database/connection.ts'
import { createWorkspaces } from '../support/seed.ts'

/** Creates workspaces that were last used a day ago. The first is idle for the longest time. */
export async function createIdleWorkspaces(db: Queryable, count: number): Promise<string[]> {
  const ids = await createWorkspaces(db, count)
  await db.query(
    `UPDATE workspaces SET last_used_at = now() - interval '1 day' + n * interval '1 s'
    FROM unnest($1::uuid[]) WITH ORDINALITY AS made (made_id, n) WHERE id = made_id`,
    [ids],
  )
  return ids
}
