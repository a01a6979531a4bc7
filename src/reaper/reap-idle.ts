import type { IdleWorkspace } from '../activity/idle-row.ts'
import type { Queryable } from '../database/connection.ts'
import { executeWithin } from '../database/deadline.ts'
import type { ConnectionPool } from '../database/pool.ts'
import { candidates } from './candidates.ts'
import { incomplete, lookForRefusals } from './completeness.ts'
import type { OutcomeKind, ReapRefusal, ReapResult } from './outcome.ts'
import { Pace } from './pace.ts'
import { type ReapOptions, type ReapSettings, reapSettings } from './reap-options.ts'
import { stopIfStillIdle } from './stop-if-still-idle.ts'
import { forgetDeleted } from './stopped-workspaces.ts'

/** The longest wait for a page of idle workspaces, in ms. */
const PAGE_WITHIN_MS = 300_000

/** How often a run asks again whether use is known completely, in ms. */
const LOOK_EVERY_MS = 60_000

/** The most failures that the result names. */
const MOST_FAILURES = 20

/**
 * Stops workspaces that nobody has used for a time, the one that was idle for longest first. A mark that was stored before
 * the decision always prevents the stop: each workspace is looked at again while its row is locked, and `stop` is called
 * in that transaction.
 *
 * Nothing is stopped while use is not known completely: marks were lost within `idleFor`, the lag is too long, flushes
 * fail, a regular source is silent, or nearly all marks are of unknown workspaces. `refused` says why. This is asked at
 * the start and once a minute. A loss of marks is looked for before each stop.
 *
 * A workspace that was never used is idle since its creation, if the host's table tells that, and is left alone otherwise.
 * One is stopped once: `stopped_workspaces` notes it, and it is a candidate again once it was used after that. So several
 * reapers may run at once. If `stop` fails, its transaction is rolled back, and the next workspace is tried.
 *
 * @returns What was done. A refusal is a result, and no error.
 * @throws {InvalidOptionError} If an option is not what it may be, or a required one is missing; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 * @throws {RowSecurityError} If row-level security may hide rows from the role, or from the owner of the views.
 * @throws {NotMigratedError} If the database or pg-boss is not migrated.
 * @throws {StandbyError} On a standby.
 * @throws {NoAnswerError} If the database does not answer in time.
 */
export async function reapIdle(options: ReapOptions): Promise<ReapResult> {
  return await reapWith(reapSettings(options))
}

/**
 * Does what {@link reapIdle} does.
 *
 * @param lookEveryMs How often it asks again whether use is known completely.
 */
export async function reapWith(settings: ReapSettings, lookEveryMs = LOOK_EVERY_MS): Promise<ReapResult> {
  const { pool, idleForSeconds, limits, dryRun, signal, logger } = settings
  const result = emptyResult(dryRun)
  const look = () => lookForRefusals(pool, idleForSeconds, limits)
  refuse(result, await look(), settings)
  if (dryRun) await listIdle(settings, result)
  else if (result.refused.length === 0 && !signal.aborted) {
    await forgetDeleted(reading(pool))
    await stopAll(settings, result, look, lookEveryMs)
  } else if (signal.aborted) result.ended = 'aborted'
  const { failures: _, refused, ...counts } = result
  logger.info({ ...counts, refused: refused.map(({ reason }) => reason) }, 'looked for idle workspaces')
  return result
}

async function listIdle(settings: ReapSettings, result: ReapResult): Promise<void> {
  for await (const { workspaceId, lastUsedAt, idleSeconds } of listed(settings)) {
    if (mayEnd(settings, result, result.idle)) return
    result.idle++
    await settings.onOutcome({ workspaceId, outcome: 'would-stop', lastUsedAt, idleSeconds, error: null })
  }
}

async function stopAll(
  settings: ReapSettings,
  result: ReapResult,
  look: () => Promise<ReapRefusal[]>,
  lookEveryMs: number,
): Promise<void> {
  const { maxPerMinute, signal } = settings
  const pace = new Pace(maxPerMinute)
  let lookedAt = performance.now()
  for await (const candidate of listed(settings)) {
    await pace.wait(signal)
    if (mayEnd(settings, result, Math.max(result.stopped, result.failed))) return
    if (performance.now() - lookedAt >= lookEveryMs) {
      refuse(result, await look(), settings)
      lookedAt = performance.now()
      if (result.refused.length > 0) return
    }
    result.idle++
    const outcome = await tryOne(settings, result, candidate)
    if (outcome === null) return
    if (outcome === 'stopped' || outcome === 'failed') pace.begun()
  }
}

/** @returns What became of it. Null if marks were lost meanwhile, which ends the run. */
async function tryOne(
  settings: ReapSettings,
  result: ReapResult,
  { workspaceId, lastUsedAt, idleSeconds }: IdleWorkspace,
): Promise<OutcomeKind | null> {
  const { pool, idleForSeconds, logger, onOutcome } = settings
  const attempt = await stopIfStillIdle(pool, workspaceId, settings)
  if (attempt.outcome === 'incomplete') {
    refuse(result, [incomplete(attempt.completeSince, idleForSeconds)], settings)
    return null
  }
  const { outcome } = attempt
  const error = attempt.outcome === 'failed' ? attempt.error : null
  result[COUNTS[outcome]]++
  if (outcome === 'stopped')
    logger.info({ workspaceId, lastUsedAt, idleSeconds }, 'stopped an idle workspace')
  if (outcome === 'failed') {
    logger.error({ err: error, workspaceId }, 'an idle workspace could not be stopped; the reaper goes on')
    const message = error instanceof Error ? error.message : String(error)
    if (result.failures.length < MOST_FAILURES) result.failures.push({ workspaceId, message })
  }
  await onOutcome({ workspaceId, outcome, lastUsedAt, idleSeconds, error })
  return outcome
}

const COUNTS = {
  stopped: 'stopped',
  failed: 'failed',
  'in-use': 'inUse',
  held: 'held',
  'stopped-before': 'stoppedBefore',
  gone: 'gone',
} as const

/** Whether the run is to end here. It says why. */
function mayEnd({ limit, signal }: ReapSettings, result: ReapResult, done: number): boolean {
  if (signal.aborted) result.ended = 'aborted'
  else if (done >= limit) result.ended = 'limit'
  else return false
  return true
}

function refuse(result: ReapResult, refused: ReapRefusal[], { dryRun, logger }: ReapSettings): void {
  result.refused = refused
  if (refused.length > 0 && !dryRun) result.ended = 'refused'
  for (const { reason, since, message, remedy } of refused)
    logger.warn({ reason, since }, `no idle workspace is stopped: ${message} ${remedy}`)
}

function listed(settings: ReapSettings): AsyncIterable<IdleWorkspace> {
  return candidates(reading(settings.pool), settings)
}

/** The same pool, but no statement waits for ever. */
function reading(pool: ConnectionPool): Queryable {
  return {
    query: async (sql, parameters = []) => {
      const { rows } = await executeWithin(pool, { sql, parameters }, PAGE_WITHIN_MS)
      return { rows }
    },
  }
}

function emptyResult(dryRun: boolean): ReapResult {
  return {
    dryRun,
    idle: 0,
    stopped: 0,
    failed: 0,
    inUse: 0,
    held: 0,
    stoppedBefore: 0,
    gone: 0,
    refused: [],
    ended: 'all',
    failures: [],
  }
}
