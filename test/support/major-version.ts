import type { Queryable } from '../../src/database/connection.ts'

/** The major version of the server, such as 18. Whoever sets `DATABASE_URL` decides which one that is. */
export async function majorVersion(db: Queryable): Promise<number> {
  const { rows } = await db.query("SELECT current_setting('server_version_num')::int / 10000 AS major")
  return (rows[0] as { major: number }).major
}
