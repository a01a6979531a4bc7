import { Random } from './random.ts'
import { markByStatement, type StatementLane } from './statement-lane.ts'
import { openPool, Rounds, type Surroundings } from './surroundings.ts'
import { markByTracker } from './tracker-lane.ts'
import { markInTransactions } from './transaction-lane.ts'
import { SHARED_SOURCE, sourceOf } from './universe.ts'

/** Marks in all ways at once, until it shall end. */
export async function runWriter(surroundings: Surroundings): Promise<void> {
  const { number, life, seed, database, proxied, report } = surroundings
  const rounds = new Rounds()
  const random = new Random(seed + 1_000 * number + life)
  const own = openPool(database, `writer ${number}`, 8)
  const through = openPool(proxied, `writer ${number} proxied`, 3)
  const listeners = own.listenerCount('error') + through.listenerCount('error')
  const common = { ...surroundings, rounds, random }
  const statement = (lane: Omit<StatementLane, keyof typeof common | 'pool'>) =>
    markByStatement({ ...common, ...lane, pool: own })
  await report({ type: 'ready' })
  await Promise.all([
    markByTracker({ ...common, pool: own, source: sourceOf(number, 'tracker'), perRound: 400, pauseMs: 350 }),
    markByTracker({
      ...common,
      pool: through,
      source: sourceOf(number, 'proxied'),
      perRound: 200,
      pauseMs: 250,
    }),
    statement({ source: sourceOf(number, 'markUsage'), by: 'markUsage', perRound: 50, pauseMs: 150 }),
    statement({ source: SHARED_SOURCE, by: 'markUsage', perRound: 20, pauseMs: 200 }),
    statement({ source: sourceOf(number, 'sql'), by: 'sql', perRound: 5, pauseMs: 50 }),
    statement({ source: SHARED_SOURCE, by: 'sql', perRound: 3, pauseMs: 100 }),
    markInTransactions({ ...common, pool: own, source: sourceOf(number, 'transaction') }),
  ])
  const left = own.listenerCount('error') + through.listenerCount('error') - listeners
  await report({ type: 'leaked listeners', count: left })
  await Promise.all([own.end(), through.end()])
}
