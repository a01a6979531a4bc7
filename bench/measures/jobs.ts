import type pg from 'pg'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { alternate, type Measure, type Result, row, type Stage, type Summary, summary } from '../measure.ts'
import { fromCallers, inSlices } from '../support/callers.ts'
import { backendCpuSeconds, walPosition } from '../support/costs.ts'
import { withPool } from '../support/database.ts'
import { RandomIds } from '../support/ids.ts'
import { graphileQueue, type JobQueue, pgBossQueue } from '../support/job-queues.ts'
import { timed } from '../support/timing.ts'

const ROUNDS = 5
const CONNECTIONS = 8
const SINGLE = 600
const MANY = 5_000
/** Jobs in a statement. */
const BATCH = 1_000

const INSERT = 'INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING'

/** What one mark costs the database. */
interface Costs {
  cpu: number[]
  wal: number[]
}

/** A job per mark, with a key so that a workspace has one waiting job. */
export const jobs: Measure = {
  name: 'jobs',
  title: 'A mark, beside a job per mark',
  run: stage =>
    withPool(stage.million, async pool => {
      const boss = await pgBossQueue(stage.million)
      const graphile = await graphileQueue(stage.million)
      try {
        return await measure(stage, pool, boss, graphile)
      } finally {
        await boss.close()
        await graphile.close()
        await pool.query('TRUNCATE ONLY pending_usage')
        await pool.query('DROP SCHEMA bench_boss CASCADE; DROP SCHEMA bench_graphile CASCADE')
      }
    }),
}

async function measure(
  { workspaces, scaled, progress }: Stage,
  pool: pg.Pool,
  boss: JobQueue,
  graphile: JobQueue,
): Promise<Result> {
  const ids = new RandomIds(pool, workspaces)
  const rounds = scaled(ROUNDS, 1)
  const warmUps = scaled(1, 0)
  const costs: Record<string, Costs> = {}
  const subject = (name: string, count: number, store: (ids: string[]) => Promise<unknown>) => async () => {
    costs[name] ??= { cpu: [], wal: [] }
    const some = await ids.take(scaled(count, 20))
    const [cpu, wal] = [await backendCpuSeconds(pool), await walPosition(pool)]
    const ms = await timed(() => store(some))
    costs[name].wal.push(((await walPosition(pool)) - wal) / some.length)
    costs[name].cpu.push((((await backendCpuSeconds(pool)) - cpu) / some.length) * 1e6)
    return (some.length / ms) * 1_000
  }
  const single = (name: string, add: (id: string) => Promise<unknown>) =>
    subject(name, SINGLE, some => fromCallers(CONNECTIONS, some, add))
  const batched = (name: string, queue: JobQueue) =>
    subject(name, MANY, some => inSlices(BATCH, some, some => queue.addAll(some)))
  const subjects = {
    [OURS]: single(OURS, id => pool.query(INSERT, [id])),
    [BOSS]: single(BOSS, boss.add),
    [GRAPHILE]: single(GRAPHILE, graphile.add),
    [TRACKER]: subject(TRACKER, MANY, some => throughTracker(pool, some)),
    [BOSS_MANY]: batched(BOSS_MANY, boss),
    [GRAPHILE_MANY]: batched(GRAPHILE_MANY, graphile),
  }
  progress(`${rounds} rounds of ${Object.keys(subjects).length} ways`)
  const rates: Record<string, Summary> = await alternate(rounds, subjects, { warmUps })
  const of = (name: string, cost: keyof Costs): Summary => summary(costs[name]![cost].slice(warmUps))
  const names = Object.keys(subjects)
  const group = (name: string) => ({ group: names.indexOf(name) < 3 ? 'single' : 'many' })
  return {
    rows: [
      ...names.map(name => ({ ...row(name, 'marks/s', rates[name]!), ...group(name) })),
      ...names.map(name => ({ ...row(name, 'µs of CPU in the server', of(name, 'cpu')), ...group(name) })),
      ...names.map(name => ({ ...row(name, 'bytes of WAL', of(name, 'wal')), ...group(name) })),
    ],
    limits:
      `New ids, ${CONNECTIONS} connections, batches of ${BATCH.toLocaleString('en')} jobs. A job has a row of many ` +
      'columns, several indexes, and a logged table. So it survives a crash of the database, which a mark does not, and ' +
      'it can carry data, wait, be retried and be watched. Here jobs are only stored: to fetch, work and delete each of ' +
      'them comes on top, as a flush does for marks.',
    targets: [],
    chart: {
      kind: 'bar',
      title: 'To store a mark, beside a job per mark',
      subtitle: `New ids over ${CONNECTIONS} connections from Node. More is better.`,
      unit: 'marks per second',
      log: true,
      categories: names,
      series: [{ name: 'marks per second', values: names.map(name => rates[name]!.median) }],
      file: 'jobs',
    },
  }
}

const OURS = 'workspace-usage: INSERT'
const BOSS = 'pg-boss: send'
const GRAPHILE = 'graphile-worker: addJob'
const TRACKER = 'workspace-usage: tracker'
const BOSS_MANY = 'pg-boss: insert, batched'
const GRAPHILE_MANY = 'graphile-worker: addJobs, batched'

async function throughTracker(pool: pg.Pool, ids: readonly string[]): Promise<void> {
  await using tracker = new UsageTracker(pool, { source: 'bench' })
  for (const id of ids) tracker.mark(id)
  await tracker.drain()
}
