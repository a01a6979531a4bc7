import { startChild } from '../load/child.ts'
import type { Drained } from '../load/drainer.ts'
import { forgetMarks, storeClosedMarks } from '../load/pending.ts'
import { sampleWaits } from '../load/waits.ts'
import { drainByWorkers } from '../load/workers.ts'
import { type Measure, row, type Stage, summary } from '../measure.ts'
import { builtProgram } from '../support/built.ts'
import { serverCpuSeconds, walPosition } from '../support/costs.ts'
import { SOURCE, withPool } from '../support/database.ts'

const PERIODS = 2
const PROCESSES = [1, 2, 4]

/** Workers take turns, so their rate does not depend on the length of the backlog. */
const FOR_WORKERS = 200_000

/** Several processes drain one backlog: drains side by side, and workers, which take turns. */
export const scaleOut: Measure = {
  name: 'scale-out',
  title: 'Several processes drain a backlog of two marks of each workspace',
  long: true,
  async run(stage) {
    const runs: Run[] = []
    for (const processes of PROCESSES) runs.push(await drainBy(stage, processes))
    stage.progress('building the package')
    const program = await builtProgram()
    const workers: Run[] = []
    for (const processes of PROCESSES) workers.push(await workersBy(stage, program, processes))
    return {
      rows: [
        ...runs.map(({ processes, rate, note }) =>
          row(`drains side by side: ${processes}`, 'marks/s', summary([rate]), note),
        ),
        ...workers.map(({ processes, rate, note }) =>
          row(`workers: ${processes}`, 'marks/s', summary([rate]), note),
        ),
      ],
      limits:
        'One connection uses one core of the server. Drains side by side (`workspace-usage flush` in several processes) ' +
        'skip marks that another one has locked. They help as far as there are cores for them, then the WAL and the disk ' +
        'are the limit: the notes tell what the server used, and where the connections were. Workers are there to take over ' +
        'from each other: the next batch goes to one of them, so more workers flush no faster.',
      targets: [],
      chart: {
        kind: 'bar',
        title: 'Processes that drain one backlog',
        subtitle: `${(PERIODS * stage.workspaces).toLocaleString('en')} marks of ${stage.workspaces.toLocaleString('en')} workspaces`,
        unit: 'marks a second',
        categories: PROCESSES.map(String),
        series: [
          { name: 'drains side by side', values: runs.map(({ rate }) => Math.round(rate)) },
          { name: 'workers, which take turns', values: workers.map(({ rate }) => Math.round(rate)) },
        ],
        file: 'scale-out',
      },
    }
  },
}

interface Run {
  processes: number
  rate: number
  note: string
}

async function workersBy(
  { million, scaled, progress }: Stage,
  program: string,
  processes: number,
): Promise<Run> {
  progress(`draining by workers: ${processes}`)
  const marks = scaled(FOR_WORKERS, 4_000)
  await storeClosedMarks(million, marks)
  const { rate, shares } = await drainByWorkers(program, million, { workers: processes, marks })
  return { processes, rate, note: `shares ${inPercent(shares)}` }
}

async function drainBy({ million, workspaces, progress }: Stage, processes: number): Promise<Run> {
  progress(`storing ${PERIODS} marks of each workspace`)
  return await withPool(million, async pool => {
    await forgetMarks(pool)
    for (let period = 0; period < PERIODS; period++) {
      await pool.query(
        `INSERT INTO pending_usage (period_end, workspace_id, source)
        SELECT now() - interval '1 ms', id, $1 FROM shuffled`,
        [SOURCE],
      )
    }
    await pool.query('VACUUM ANALYZE pending_usage, workspaces, workspace_usage_day')
    await pool.query('CHECKPOINT')
    progress(`draining by ${processes}`)
    const drainers = await Promise.all(
      Array.from({ length: processes }, () =>
        startChild<Drained>('drainer.ts', undefined, { connectionString: million }),
      ),
    )
    const [cpu, wal] = [await serverCpuSeconds(pool), await walPosition(pool)]
    await using waits = sampleWaits(million, 'drainer')
    for (const drainer of drainers) drainer.start()
    const drained = await Promise.all(drainers.map(({ result }) => result))
    const seconds = Math.max(...drained.map(({ seconds }) => seconds))
    const cores = ((await serverCpuSeconds(pool)) - cpu) / seconds
    const megabytes = ((await walPosition(pool)) - wal) / seconds / 1e6
    const flushed = drained.reduce((sum, { flushed }) => sum + flushed, 0)
    if (flushed !== PERIODS * workspaces)
      throw new Error(`flushed ${flushed} of ${PERIODS * workspaces} marks`)
    const shares = inPercent(drained.map(({ flushed }) => flushed))
    const note = `server ${cores.toFixed(1)} cores, WAL ${megabytes.toFixed(0)} MB/s; ${waits.inWords()}; shares ${shares}`
    return { processes, rate: flushed / seconds, note }
  })
}

function inPercent(shares: readonly number[]): string {
  const sum = shares.reduce((all, one) => all + one, 0)
  return shares.map(share => `${Math.round((share / sum) * 100)} %`).join(', ')
}
