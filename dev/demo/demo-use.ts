import type { ConnectionPool } from '../../src/database/pool.ts'
import type { Logger } from '../../src/logger.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'

/** The number of workspaces that the demo creates. */
const WORKSPACES = 1_000

/** Marks per second, of random workspaces. A few workspaces are marked often, most hardly ever. */
const MARKS_PER_SECOND = 500

const SOURCES = ['ssh', 'vscode', 'port-forward']

/** Made-up usage, so that there is something to look at. */
export interface DemoUse extends AsyncDisposable {
  /** The workspace that is marked most. */
  readonly busiest: string
  /** The calls of `mark` so far, and the rows that they stored. */
  counts(): { marked: number; stored: number }
}

/** Creates workspaces if there are none. Then marks them at random, as three services would, until it is disposed. */
export async function startDemoUse(pool: ConnectionPool, logger: Logger): Promise<DemoUse> {
  await pool.query(
    `INSERT INTO workspaces SELECT FROM generate_series(1, $1) WHERE NOT EXISTS (SELECT FROM workspaces)`,
    [WORKSPACES],
  )
  const { rows } = await pool.query('SELECT id FROM workspaces ORDER BY id LIMIT $1', [WORKSPACES])
  const ids = (rows as { id: string }[]).map(({ id }) => id)
  const trackers = SOURCES.map(source => new UsageTracker(pool, { source, logger }))
  const timer = setInterval(() => {
    for (let i = 0; i < MARKS_PER_SECOND / 10; i++) {
      const id = ids[Math.floor(Math.random() ** 6 * ids.length)]!
      trackers[Math.floor(Math.random() * trackers.length)]!.mark(id)
    }
  }, 100)
  const total = (count: 'marked' | 'stored') =>
    trackers.reduce((sum, tracker) => sum + tracker.stats()[count], 0)
  return {
    busiest: ids[0]!,
    counts: () => ({ marked: total('marked'), stored: total('stored') }),
    [Symbol.asyncDispose]: async () => {
      clearInterval(timer)
      await Promise.all(trackers.map(tracker => tracker.close()))
    },
  }
}
