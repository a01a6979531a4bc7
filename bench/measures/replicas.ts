import type pg from 'pg'
import { drain } from '../../src/flush/drain.ts'
import { DEFAULT_BATCH_SIZE } from '../../src/flush/flush.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import {
  atMost,
  inTurn,
  type Measure,
  type Result,
  type Row,
  row,
  type Stage,
  type Summary,
  summary,
} from '../measure.ts'
import { closePeriods } from '../support/close-periods.ts'
import { walPosition } from '../support/costs.ts'
import { withPool } from '../support/database.ts'
import { RandomIds } from '../support/ids.ts'

const REPLICAS = [1, 4, 16]
const WORKSPACES = 10_000
const ROUNDS = 3
/** Rows of each page of the table: see `flush.ts`. */
const EACH_PAGE = 60_000

const UPDATE = 'UPDATE workspaces SET last_used_at = now() WHERE id = ANY ($1)'
/** For one that has been written in this interval of a minute already. */
const GUARDED = `${UPDATE} AND last_used_at < now() - interval '30 s'`

/** What one interval writes. */
interface Written {
  /** Rows of `workspaces`. */
  rows: number
  /** Bytes of WAL. */
  wal: number
}

/** Several replicas of a service see the same workspaces in use. */
export const replicas: Measure = {
  name: 'replicas',
  title: 'One interval, with several replicas that see the same 10,000 workspaces',
  run: stage => withPool(stage.million, pool => measure(stage, pool)),
}

async function measure({ workspaces, scaled, progress }: Stage, pool: pg.Pool): Promise<Result> {
  const ids = new RandomIds(pool, workspaces)
  // The first write of a page after a checkpoint writes the whole page. Here that is paid for all.
  await pool.query('TRUNCATE ONLY pending_usage; CHECKPOINT')
  await pool.query(UPDATE, [await ids.take(scaled(EACH_PAGE))])
  const found = new Map<number, Record<Way, Record<keyof Written, Summary>>>()
  for (const count of REPLICAS) {
    progress(`${count} replicas`)
    found.set(count, await interval(pool, count, scaled(ROUNDS, 1), () => ids.take(scaled(WORKSPACES, 20))))
  }
  const rows: Row[] = REPLICAS.flatMap(count => {
    const ways = found.get(count)!
    const names = Object.keys(WAYS) as Way[]
    const words = count === 1 ? 'one replica' : `${count} replicas`
    const rowsOf = (part: keyof Written, unit: string) =>
      names.map(name => ({ ...row(`${words}: ${WAYS[name].label}`, unit, ways[name][part]), group: words }))
    return [...rowsOf('rows', 'rows of workspaces'), ...rowsOf('wal', 'MB of WAL')]
  })
  const most = REPLICAS.at(-1)!
  const share = (part: keyof Written) =>
    found.get(most)!.ours[part].median / found.get(most)!.plain[part].median
  return {
    rows,
    limits:
      'A mark of the same workspace, source and period is one row, whichever process stores it. So one interval writes ' +
      'each workspace once. A set in each replica writes it once per replica, here one after the other, because at once ' +
      'such UPDATEs can deadlock. With a guard the later ones only read; then the time is as exact as the guard, each ' +
      'replica still reads every row, and rows that two replicas write at once wait for each other. Ours without ' +
      'sources, as the others know none. One flush of all writes the WAL of one UPDATE of all. Each of several smaller ' +
      'ones removes old versions from the pages that it visits, which is a record of its own for each page: that is ' +
      'what flushes of the default size cost more.',
    targets: [
      atMost(`rows with ${most} replicas, to a set in each`, share('rows'), 1 / most, 'times'),
      atMost(`WAL with ${most} replicas, to a set in each`, share('wal'), 1 / most, 'times'),
    ],
    chart: {
      kind: 'bar',
      title: 'WAL of one interval',
      subtitle: 'Replicas of a service that see the same 10,000 workspaces in use. Less is better.',
      unit: 'MB',
      categories: REPLICAS.map(count => (count === 1 ? 'one replica' : `${count} replicas`)),
      series: (Object.keys(WAYS) as Way[]).map(name => ({
        name: WAYS[name].label,
        values: REPLICAS.map(count => found.get(count)![name].wal.median),
      })),
      file: 'replicas',
    },
  }
}

const WAYS = {
  ours: { label: 'workspace-usage: marks and one flush', run: throughTrackers(WORKSPACES) },
  inBatches: {
    label: 'workspace-usage: marks and flushes of the default size',
    run: throughTrackers(DEFAULT_BATCH_SIZE),
  },
  plain: { label: 'a set in each, UPDATE … = ANY', run: setInEach(UPDATE) },
  guarded: { label: 'a set in each, guarded by 30 s', run: setInEach(GUARDED) },
}
type Way = keyof typeof WAYS

/** Runs one interval in each way, in alternating order, each time with other workspaces. */
async function interval(
  pool: pg.Pool,
  replicas: number,
  rounds: number,
  take: () => Promise<string[]>,
): Promise<Record<Way, Record<keyof Written, Summary>>> {
  const names = Object.keys(WAYS) as Way[]
  const written = Object.fromEntries(names.map(name => [name, [] as Written[]])) as Record<Way, Written[]>
  await inTurn(rounds, names, async name => {
    const some = await take()
    // They were used long ago, so that no guard holds for the first replica.
    await pool.query(`UPDATE workspaces SET last_used_at = now() - interval '1 h' WHERE id = ANY ($1)`, [
      some,
    ])
    written[name].push(await WAYS[name].run(pool, some, replicas))
  })
  const of = (name: Way, part: keyof Written) => summary(written[name].map(one => one[part]))
  return Object.fromEntries(
    names.map(name => [name, { rows: of(name, 'rows'), wal: of(name, 'wal') }]),
  ) as Record<Way, Record<keyof Written, Summary>>
}

function throughTrackers(batchSize: number) {
  return async (pool: pg.Pool, ids: readonly string[], replicas: number): Promise<Written> => {
    const storing = await walOf(pool, async () => {
      const trackers = Array.from({ length: replicas }, () => new UsageTracker(pool, { source: 'bench' }))
      for (const id of ids) for (const tracker of trackers) tracker.mark(id)
      await Promise.all(trackers.map(tracker => tracker.close({ timeoutMs: 600_000 })))
      return 0
    })
    await closePeriods(pool)
    const flushing = await walOf(pool, async () => (await drain(pool, { batchSize, sources: false })).updated)
    return { rows: flushing.rows, wal: storing.wal + flushing.wal }
  }
}

function setInEach(statement: string) {
  return (pool: pg.Pool, ids: readonly string[], replicas: number): Promise<Written> =>
    walOf(pool, async () => {
      let rows = 0
      for (let replica = 0; replica < replicas; replica++)
        rows += (await pool.query(statement, [ids])).rowCount ?? 0
      return rows
    })
}

async function walOf(pool: pg.Pool, work: () => Promise<number>): Promise<Written> {
  const before = await walPosition(pool)
  const rows = await work()
  return { rows, wal: ((await walPosition(pool)) - before) / 1e6 }
}
