/*
 * Stops workspaces that nobody has used for a time. A mark that is stored before the decision always prevents it. After a
 * loss of marks, such as by a crash of the server, nothing is stopped until marks are complete for that time.
 *
 *     DATABASE_URL=postgres://… node examples/stop-idle-workspaces.ts 30d         # prints what would be stopped
 *     DATABASE_URL=postgres://… node examples/stop-idle-workspaces.ts 30d --yes   # stops it
 *
 * Its `stop` sends a notification. Put your own in its place. In a checkout of workspace-usage, run `npm run build` first.
 */
import pg from 'pg'
import { reapIdle, type StopWorkspace } from 'workspace-usage'

/**
 * Asks another process to stop the workspace. PostgreSQL sends the notification when the transaction commits, so it is
 * sent only if the workspace was still idle. This is short, because all who update the workspace wait for it.
 */
export const stop: StopWorkspace = async (client, workspaceId) => {
  await client.query("SELECT pg_notify('stop_workspace', $1)", [workspaceId])
}

if (import.meta.main) {
  const idleFor = process.argv[2] ?? '30d'
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, application_name: 'stop-idle' })
  const result = await reapIdle({
    pool,
    idleFor,
    stop,
    dryRun: process.argv[3] !== '--yes',
    onOutcome: ({ outcome, workspaceId }) => console.log(`${outcome} ${workspaceId}`),
  })
  for (const { message } of result.refused) console.error(`nothing is stopped: ${message}`)
  const { idle, stopped } = result
  console.log(`not used for ${idleFor}: ${idle}, stopped: ${stopped}`)
  await pool.end()
}
