import type pg from 'pg'
import { markUsage } from '../../../src/mark/mark.ts'
import type { Random } from './random.ts'
import { isRefused, pause, type Rounds, reportError, type Surroundings } from './surroundings.ts'
import { SOURCES } from './universe.ts'

/** How single statements mark. */
export interface StatementLane extends Surroundings {
  rounds: Rounds
  random: Random
  pool: pg.Pool
  source: number
  by: 'markUsage' | 'sql'
  perRound: number
  pauseMs: number
}

/** Marks with one statement a round, and tries nothing again. */
export async function markByStatement(lane: StatementLane): Promise<void> {
  while (!lane.signal.aborted) {
    await markRound(lane)
    await pause(lane.pauseMs, lane.signal)
  }
}

async function markRound(lane: StatementLane): Promise<void> {
  const { universe, random, rounds, report, source, perRound } = lane
  const round = rounds.next()
  const workspaces = universe.inUse(perRound, Date.now(), random)
  await report({ type: 'intent', round, source, workspaces })
  const before = Date.now()
  const ids = workspaces.map(workspace => universe.ids[workspace]!)
  const outcome = await store(lane, ids).then(
    () => 'acknowledged' as const,
    async error => {
      await reportError(report, error)
      return isRefused(error) ? ('rolled back' as const) : ('unknown' as const)
    },
  )
  const common = { before, stored: Date.now() + 1, calls: ids.length, retried: false }
  await report({ type: 'outcome', round, outcome, ...common })
}

async function store({ pool, source, by }: StatementLane, ids: string[]): Promise<void> {
  if (by === 'markUsage') await markUsage(pool, ids, { source: SOURCES[source]! })
  else {
    await pool.query(INSERT, [ids, SOURCES[source]!])
  }
}

/** As another language would write it. The order keeps two of these from a deadlock. */
export const INSERT = `INSERT INTO pending_usage (workspace_id, source)
  SELECT id, $2 FROM unnest($1::uuid[]) AS used (id) ORDER BY id ON CONFLICT DO NOTHING`
