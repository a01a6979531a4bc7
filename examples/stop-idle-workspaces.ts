/*
 * Stops workspaces that nobody has used for a time. A use that was stored before the decision always prevents it.
 *
 *     DATABASE_URL=postgres://… node examples/stop-idle-workspaces.ts 30    # days
 *
 * What runs here stops nothing and prints what it would stop: put your own `stop` in its place. In a checkout of
 * workspace-usage, run `npm run build` first.
 */
import pg from 'pg'
import { idleWorkspaces } from 'workspace-usage'

/** Stops or deletes one workspace, with the client and in the transaction in which it was found idle. */
export type Stop = (client: pg.PoolClient, workspaceId: string) => Promise<void>

/**
 * Stops each workspace that was not used for at least `idleForSeconds`, and returns their ids.
 *
 * Those never used are left alone: only the host knows when they were created, so it should list them itself.
 */
export async function stopIdleWorkspaces(
  pool: pg.Pool,
  idleForSeconds: number,
  stop: Stop,
): Promise<string[]> {
  const stopped: string[] = []
  for await (const { workspaceId } of idleWorkspaces(pool, { idleForSeconds, neverUsed: false })) {
    if (await stopIfStillIdle(pool, workspaceId, idleForSeconds, stop)) stopped.push(workspaceId)
  }
  return stopped
}

/**
 * Stops one workspace, unless it was used since it was listed.
 *
 * It takes two statements, in this order. The lock comes first. It waits for a flush that has the workspace in hand, and
 * from then on every flush leaves the marks of the workspace pending. The second statement reads in a snapshot of its
 * own, which is younger than the lock. Each mark stored before it is there, in pending_usage or already in workspaces,
 * and the view looks at both. In one statement, or under REPEATABLE READ, the snapshot would be older than the lock, and a
 * mark stored while the lock waited would be missed.
 *
 * A mark that comes after the second statement is a use that came too late. It is not lost: last_used_at of the stopped
 * workspace will tell. Keep `stop` short, such as setting a state that another process acts on, because whoever else
 * updates the workspace waits until it is done.
 */
export async function stopIfStillIdle(
  pool: pg.Pool,
  workspaceId: string,
  idleForSeconds: number,
  stop: Stop,
): Promise<boolean> {
  const client = await pool.connect()
  let failure: Error | undefined
  try {
    await client.query('BEGIN ISOLATION LEVEL READ COMMITTED')
    await client.query('SELECT FROM workspaces WHERE id = $1 FOR NO KEY UPDATE', [workspaceId])
    const { rows } = await client.query<{ idle: boolean | null }>(
      `SELECT last_used_at <= statement_timestamp() - make_interval(secs => $2) AS idle
      FROM workspace_activity WHERE workspace_id = $1`,
      [workspaceId, idleForSeconds],
    )
    // No row: deleted meanwhile. Null: never used.
    const idle = rows[0]?.idle ?? false
    if (idle) await stop(client, workspaceId)
    await client.query('COMMIT')
    return idle
  } catch (error) {
    failure = error as Error
    throw error
  } finally {
    // After an error the connection is dropped, which rolls back.
    client.release(failure)
  }
}

if (import.meta.main) {
  const days = Number(process.argv[2] ?? 30)
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, application_name: 'stop-idle' })
  const stopped = await stopIdleWorkspaces(pool, days * 86_400, async (_client, workspaceId) => {
    console.log(`would stop ${workspaceId}`)
  })
  console.log(`not used for ${days} days: ${stopped.length}`)
  await pool.end()
}
