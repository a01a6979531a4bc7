import { idleWorkspaces } from '../activity/idle.ts'
import type { IdleWorkspace } from '../activity/idle-row.ts'
import type { Connection } from '../database/connection.ts'
import { stoppedFor } from './stopped-workspaces.ts'

/** Candidates that are looked up together. */
const BATCH = 500

/** Which idle workspaces are candidates. */
export interface CandidateRules {
  idleForSeconds: number
  /** Whether those that a reaper has stopped before are candidates too. */
  again: boolean
}

/**
 * Lists what may be stopped, the one that was idle for longest first. A workspace that was never used is one only if the
 * host tells when it was created. One that a reaper has stopped is one again once it was used after that.
 */
export async function* candidates(
  connection: Connection,
  { idleForSeconds, again }: CandidateRules,
): AsyncGenerator<IdleWorkspace> {
  let batch: IdleWorkspace[] = []
  const pick = async () => {
    const picked = again ? batch : await notStopped(connection, batch)
    batch = []
    return picked
  }
  for await (const workspace of idleWorkspaces(connection, { idleForSeconds })) {
    // Those of which no time is known come last.
    if (workspace.idleSince === null) break
    batch.push(workspace)
    if (batch.length === BATCH) yield* await pick()
  }
  if (batch.length > 0) yield* await pick()
}

async function notStopped(connection: Connection, batch: IdleWorkspace[]): Promise<IdleWorkspace[]> {
  const stopped = await stoppedFor(
    connection,
    batch.map(({ workspaceId }) => workspaceId),
  )
  return batch.filter(({ workspaceId, idleSince }) => {
    const since = stopped.get(workspaceId)
    return since === undefined || idleSince! > since
  })
}
