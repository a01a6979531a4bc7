import type pg from 'pg'
import { drain } from '../../src/flush/drain.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { forgetMarks } from '../load/pending.ts'
import { type Measure, type Row, row, type Stage, summary } from '../measure.ts'
import { closePeriods } from '../support/close-periods.ts'
import { serverCpuSeconds, walPosition } from '../support/costs.ts'
import { withPool } from '../support/database.ts'
import { timed, turn } from '../support/timing.ts'

/** Active workspaces, with the rounds that count. */
const SIZES = [
  { active: 1_000, rounds: 7, periods: [30] },
  { active: 100_000, rounds: 3, periods: [30] },
  { active: 1_000_000, rounds: 1, periods: [30, 300] },
]

/** Up to so many workspaces, no two marks meet in one statement. */
const ONE_BY_ONE = 1_000

/** PostgreSQL's default time between two checkpoints. After each, the first change of a page writes all of it to the WAL. */
const CHECKPOINT_MINUTES = 5

const TABLES = 'workspaces, workspace_usage_day, pending_usage'

/** What marks of all active workspaces in one period cost. */
interface Round {
  /** CPU of the whole server, in seconds. */
  marks: number
  flushes: number
  vacuum: number
  /** Time by the clock of the flushes over one connection, in seconds. */
  lasts: number
  walBytes: number
  pendingBytes: number
}

/** What a server needs for some number of workspaces that are in use all the time. */
export const sizing: Measure = {
  name: 'sizing',
  title: 'What workspaces need that are in use all the time, by one source',
  long: true,
  run: stage =>
    withPool(stage.million, async pool => {
      const rows: Row[] = []
      for (const { active, rounds, periods } of SIZES) {
        const found = await measure(stage, pool, stage.scaled(active, 10), rounds)
        for (const period of periods) rows.push(...needs(stage.scaled(active, 10), period, found))
      }
      await forgetMarks(pool)
      return {
        rows,
        limits:
          'A tracker stores a mark of each active workspace in each period, and one connection flushes them in batches of ' +
          `the default size. The workspaces are random ones out of ${stage.workspaces.toLocaleString('en')}. CPU is that of ` +
          'all processes of the server. The WAL includes the whole pages that follow a checkpoint every five minutes. ' +
          'VACUUM runs here after each round, which is more often than autovacuum would. A thousand marks are stored one ' +
          'by one, which costs most. Connections: one of each tracker while it sends, two of a worker.',
        targets: [],
      }
    }),
}

/** The first round follows a checkpoint. */
async function measure({ progress }: Stage, pool: pg.Pool, active: number, rounds: number) {
  const ids = await pool.query<{ id: string }>('SELECT id FROM shuffled WHERE place <= $1', [active])
  await forgetMarks(pool)
  await pool.query(`VACUUM ANALYZE ${TABLES}`)
  await pool.query('CHECKPOINT')
  const all: Round[] = []
  for (let round = 0; round <= rounds; round++) {
    progress(`${active.toLocaleString('en')} active workspaces, round ${round} of ${rounds}`)
    all.push(
      await oneRound(
        pool,
        ids.rows.map(row => row.id),
      ),
    )
  }
  const [afterCheckpoint, ...later] = all
  return { afterCheckpoint: afterCheckpoint!, later }
}

async function oneRound(pool: pg.Pool, ids: readonly string[]): Promise<Round> {
  const cost = async (work: () => Promise<unknown>) => {
    const [cpu, wal] = [await serverCpuSeconds(pool), await walPosition(pool)]
    const lasts = (await timed(work)) / 1_000
    return { cpu: (await serverCpuSeconds(pool)) - cpu, wal: (await walPosition(pool)) - wal, lasts }
  }
  const marks = await cost(() => store(pool, ids))
  const { rows } = await pool.query("SELECT pg_total_relation_size('pending_usage')::text AS bytes")
  await closePeriods(pool)
  let flushed = 0
  const flushes = await cost(async () => {
    flushed = (await drain(pool, { timeoutSeconds: 600 })).flushed
  })
  if (flushed !== ids.length) throw new Error(`flushed ${flushed} of ${ids.length} marks`)
  const vacuum = await cost(() => pool.query(`VACUUM ${TABLES}`))
  return {
    marks: marks.cpu,
    flushes: flushes.cpu,
    vacuum: vacuum.cpu,
    lasts: flushes.lasts,
    walBytes: marks.wal + flushes.wal + vacuum.wal,
    pendingBytes: Number(rows[0].bytes),
  }
}

async function store(pool: pg.Pool, ids: readonly string[]): Promise<void> {
  const tracker = new UsageTracker(pool, { source: 'ssh', statementTimeoutMs: 600_000 })
  for (const [index, id] of ids.entries()) {
    tracker.mark(id)
    if (ids.length <= ONE_BY_ONE) await tracker.drain()
    else if (index % 5_000 === 0) await turn()
  }
  await tracker.close({ timeoutMs: 600_000 })
}

/** The rows of one size and one length of a period. */
function needs(active: number, period: number, found: { afterCheckpoint: Round; later: Round[] }): Row[] {
  const { afterCheckpoint, later } = found
  const group = `${active.toLocaleString('en')} active, period of ${period} s`
  const perMinute = 60 / period
  const need = (label: string, unit: string, of: (round: Round) => number): Row => ({
    ...row(`${group}: ${label}`, unit, summary(later.map(of))),
    group,
  })
  const wholePages = (round: Round) =>
    Math.max(0, afterCheckpoint.walBytes - round.walBytes) / CHECKPOINT_MINUTES
  return [
    need('CPU to store marks', 's/min', round => round.marks * perMinute),
    need('CPU to flush', 's/min', round => round.flushes * perMinute),
    need('CPU to vacuum', 's/min', round => round.vacuum * perMinute),
    need('one connection flushes for', 's/min', round => round.lasts * perMinute),
    need('WAL', 'MB/s', round => (round.walBytes * perMinute + wholePages(round)) / 60 / 1e6),
    need('pending_usage, marks of one period', 'MB', round => round.pendingBytes / 1e6),
  ]
}
