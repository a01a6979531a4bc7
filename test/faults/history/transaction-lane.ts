import type pg from 'pg'
import type { Message } from './messages.ts'
import type { Random } from './random.ts'
import { INSERT } from './statement-lane.ts'
import { pause, type Rounds, reportError, type Surroundings } from './surroundings.ts'
import { SOURCES } from './universe.ts'

/** How transactions mark. */
export interface TransactionLane extends Surroundings {
  rounds: Rounds
  random: Random
  pool: pg.Pool
  source: number
}

/**
 * Marks inside transactions that stay open after the mark, for up to four seconds, and then commit or roll back: so
 * their marks appear when their period has long closed. No other lane has the source, because two transactions that
 * mark the same workspaces wait for each other.
 */
export async function markInTransactions(lane: TransactionLane): Promise<void> {
  while (!lane.signal.aborted) {
    await markAndWait(lane).catch(error => reportError(lane.report, error))
    await pause(100, lane.signal)
  }
}

async function markAndWait(lane: TransactionLane): Promise<void> {
  const { universe, random, rounds, report, source, pool, signal } = lane
  const client = await pool.connect()
  const open: { round: number; before: number; stored: number; calls: number }[] = []
  const settle = async (outcome: (Message & { type: 'outcome' })['outcome']) => {
    for (const round of open) await report({ type: 'outcome', ...round, outcome, retried: false })
  }
  let committing = false
  try {
    await client.query('BEGIN')
    for (let statement = random.integer(1, 3); statement > 0; statement--) {
      const round = rounds.next()
      const workspaces = universe.inUse(10, Date.now(), random)
      await report({ type: 'intent', round, source, workspaces })
      const ids = workspaces.map(workspace => universe.ids[workspace]!)
      const marks = { round, before: Date.now(), stored: Number.POSITIVE_INFINITY, calls: ids.length }
      open.push(marks)
      await client.query(INSERT, [ids, SOURCES[source]!])
      marks.stored = Date.now() + 1
      await pause(random.next() ** 3 * 2_000, signal)
    }
    committing = random.next() < 0.8
    await client.query(committing ? 'COMMIT' : 'ROLLBACK')
    await settle(committing ? 'acknowledged' : 'rolled back')
    client.release()
  } catch (error) {
    client.release(true)
    // Without a COMMIT nothing is stored, however late the server learns of it.
    await settle(committing ? 'unknown' : 'rolled back')
    await reportError(report, error)
  }
}
