import { idleWorkspaces } from '../activity/idle.ts'
import type { IdleWorkspace } from '../activity/idle-row.ts'
import type { Connection } from '../database/connection.ts'
import { createdBefore, stoppedFor, tellsCreation } from './stopped-workspaces.ts'

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
  const neverUsed = await tellsCreation(connection)
  const pick = (batch: IdleWorkspace[]) => fitting(connection, batch, { idleForSeconds, again })
  let batch: IdleWorkspace[] = []
  for await (const workspace of idleWorkspaces(connection, { idleForSeconds, neverUsed })) {
    batch.push(workspace)
    if (batch.length < BATCH) continue
    yield* await pick(batch)
    batch = []
  }
  if (batch.length > 0) yield* await pick(batch)
}

async function fitting(
  connection: Connection,
  batch: IdleWorkspace[],
  { idleForSeconds, again }: CandidateRules,
): Promise<IdleWorkspace[]> {
  const idsOf = (workspaces: IdleWorkspace[]) => workspaces.map(({ workspaceId }) => workspaceId)
  const unused = batch.filter(({ lastUsedAt }) => lastUsedAt === null)
  const old = unused.length > 0 ? await createdBefore(connection, idsOf(unused), idleForSeconds) : new Set()
  const stopped = again ? new Map<string, Date>() : await stoppedFor(connection, idsOf(batch))
  return batch.filter(({ workspaceId, lastUsedAt }) => {
    if (lastUsedAt === null && !old.has(workspaceId)) return false
    const since = stopped.get(workspaceId)
    return since === undefined || (lastUsedAt !== null && lastUsedAt > since)
  })
}
