import type pg from 'pg'
import { UsageTracker } from '../../../src/mark/tracker.ts'
import type { Random } from './random.ts'
import { pause, type Rounds, reportError, type Surroundings, silentLogger } from './surroundings.ts'
import { SOURCES } from './universe.ts'

/** How a tracker marks. */
export interface TrackerLane extends Surroundings {
  rounds: Rounds
  random: Random
  pool: pg.Pool
  source: number
  /** Distinct workspaces of a round. */
  perRound: number
  pauseMs: number
}

/** A tracker may need this long to store its last marks, in ms. */
const CLOSE_MS = 30_000

/**
 * Marks with one tracker, two rounds at a time, so that a round also finds what another one has stored. A round is
 * acknowledged when `drain` has resolved.
 */
export async function markByTracker(lane: TrackerLane): Promise<void> {
  const { pool, source, signal, report } = lane
  const tracker = new UsageTracker(pool, {
    source: SOURCES[source]!,
    logger: silentLogger,
    statementTimeoutMs: 3_000,
  })
  const strand = async () => {
    while (!signal.aborted) {
      await markRound(lane, tracker)
      await pause(lane.pauseMs, signal)
    }
  }
  const strands = Promise.all([strand(), strand()])
  await new Promise<void>(resolve => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
  // It drains, and so ends the rounds that wait. A round may begin no more.
  const { left } = await tracker.close({ timeoutMs: CLOSE_MS })
  await strands
  await report({ type: 'not stored', left, dropped: tracker.stats().dropped })
}

async function markRound(
  { universe, random, rounds, report, source, perRound }: TrackerLane,
  tracker: UsageTracker,
): Promise<void> {
  const round = rounds.next()
  const workspaces = universe.inUse(perRound, Date.now(), random)
  await report({ type: 'intent', round, source, workspaces })
  const { failedAttempts, marked } = tracker.stats()
  const before = Date.now()
  for (const workspace of workspaces) tracker.mark(universe.ids[workspace]!)
  // A service sees the same workspace over and over.
  for (const workspace of workspaces.slice(0, perRound / 2)) tracker.mark(universe.ids[workspace]!)
  const calls = tracker.stats().marked - marked
  let acknowledged = calls > 0
  try {
    await tracker.drain()
  } catch (error) {
    acknowledged = false
    await reportError(report, error)
  }
  await report({
    type: 'outcome',
    round,
    outcome: acknowledged ? 'acknowledged' : 'unknown',
    before,
    stored: Date.now() + 1,
    calls,
    retried: tracker.stats().failedAttempts > failedAttempts,
  })
}
