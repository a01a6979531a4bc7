/*
 * Stops workspaces that nobody has used for a time. A mark that is stored before the decision always prevents it.
 * After a loss of marks, such as by a crash of the server, nothing is stopped until marks are complete for that time.
 *
 *     DATABASE_URL=postgres://… node examples/stop-idle-workspaces.ts 30    # days
 *
 * This program only prints what it would stop. Put your own `stop` in its place. In a checkout of workspace-usage, run
 * `npm run build` first.
 */
import pg from 'pg'
import { idleWorkspaces } from 'workspace-usage'

/** Stops or deletes one workspace. The client is in the transaction that found the workspace idle. */
export type Stop = (client: pg.PoolClient, workspaceId: string) => Promise<void>

/**
 * Stops each workspace that was not used for at least `idleForSeconds`, and returns their ids.
 *
 * Workspaces that were never used are left alone. Only the host knows when they were created, so it should list them.
 */
export async function stopIdleWorkspaces(
  pool: pg.Pool,
  idleForSeconds: number,
  stop: Stop,
): Promise<string[]> {
  const stopped: string[] = []
  if (!(await marksAreComplete(pool, idleForSeconds))) return stopped
  for await (const { workspaceId } of idleWorkspaces(pool, { idleForSeconds, neverUsed: false })) {
    if (await stopIfStillIdle(pool, workspaceId, idleForSeconds, stop)) stopped.push(workspaceId)
  }
  return stopped
}

/**
 * Whether no marks of that time were lost. A workspace whose last marks were lost looks idle, and may be in use. So wait
 * until all marks are known for as long as a workspace must be idle.
 */
export async function marksAreComplete(pool: pg.Pool, seconds: number): Promise<boolean> {
  const { rows } = await pool.query<{ complete: boolean }>(
    'SELECT usage_complete_since() <= statement_timestamp() - make_interval(secs => $1) AS complete',
    [seconds],
  )
  return rows[0]!.complete
}

/**
 * Stops one workspace, unless it was used since it was listed.
 *
 * It needs two statements, in this order. The first one locks the workspace. It waits for a flush that holds the
 * workspace. After that, every flush leaves the marks of this workspace pending. The second statement has a snapshot of
 * its own, taken after the lock. It sees each mark that is stored by then, in pending_usage or already in workspaces,
 * because the view reads both. In a single statement, or under REPEATABLE READ, the snapshot would be older than the
 * lock. A mark that was stored while the lock waited would then be missed.
 *
 * A mark that is stored after the second statement came too late. It is not lost: last_used_at will show it. Keep
 * `stop` short, because all who update the workspace wait for it. For example, let it set a state, and let another
 * process act on that state.
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
    const { rows } = await client.query<{ idle: boolean }>(
      `SELECT greatest(last_used_at, usage_complete_since()) <= statement_timestamp() - make_interval(secs => $2)
        AND last_used_at IS NOT NULL AS idle
      FROM workspace_activity WHERE workspace_id = $1`,
      [workspaceId, idleForSeconds],
    )
    // No row means that the workspace was deleted. One that was never used is left alone.
    const idle = rows[0]?.idle ?? false
    if (idle) await stop(client, workspaceId)
    await client.query('COMMIT')
    return idle
  } catch (error) {
    failure = error as Error
    throw error
  } finally {
    // After an error the connection is dropped. That rolls back.
    client.release(failure)
  }
}

if (import.meta.main) {
  const days = Number(process.argv[2] ?? 30)
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, application_name: 'stop-idle' })
  if (!(await marksAreComplete(pool, days * 86_400))) {
    console.error(
      `Marks were lost since ${days} days ago: nothing is stopped. Look at "workspace-usage status".`,
    )
  }
  const stopped = await stopIdleWorkspaces(pool, days * 86_400, async (_client, workspaceId) => {
    console.log(`would stop ${workspaceId}`)
  })
  console.log(`not used for ${days} ${days === 1 ? 'day' : 'days'}: ${stopped.length}`)
  await pool.end()
}
