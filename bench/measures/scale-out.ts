import { startChild } from '../load/child.ts'
import type { Drained } from '../load/drainer.ts'
import { forgetMarks } from '../load/pending.ts'
import { sampleWaits } from '../load/waits.ts'
import { type Measure, row, type Stage, summary } from '../measure.ts'
import { serverCpuSeconds, walPosition } from '../support/costs.ts'
import { SOURCE, withPool } from '../support/database.ts'

const PERIODS = 2
const PROCESSES = [1, 2, 4]

/** Several processes drain one backlog. Marks that another one has locked are skipped, so they share it. */
export const scaleOut: Measure = {
  name: 'scale-out',
  title: 'Several processes drain a backlog of two marks of each workspace',
  long: true,
  async run(stage) {
    const runs = []
    for (const processes of PROCESSES) runs.push(await drainBy(stage, processes))
    return {
      rows: runs.map(({ processes, rate, note }) =>
        row(`${processes} ${processes === 1 ? 'process' : 'processes'}`, 'marks/s', summary([rate]), note),
      ),
      limits:
        'Each process calls `drain`, over one connection, in batches of the default size. One connection uses one core ' +
        'of the server. More of them help as far as there are cores for them; then they wait for each other, and for the ' +
        'WAL. The notes tell the cores that the server used, the WAL, and where the connections were when they did not ' +
        'compute. Workers on a schedule take turns instead: one of them has the next batch.',
      targets: [],
      chart: {
        kind: 'bar',
        title: 'Processes that drain one backlog',
        subtitle: `${(PERIODS * stage.workspaces).toLocaleString('en')} marks of ${stage.workspaces.toLocaleString('en')} workspaces`,
        unit: 'marks a second',
        categories: PROCESSES.map(String),
        series: [{ name: 'marks/s', values: runs.map(({ rate }) => Math.round(rate)) }],
        file: 'scale-out',
      },
    }
  },
}

async function drainBy({ million, workspaces, progress }: Stage, processes: number) {
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
    const shares = drained.map(({ flushed: own }) => `${Math.round((own / flushed) * 100)} %`).join(', ')
    const note = `server ${cores.toFixed(1)} cores, WAL ${megabytes.toFixed(0)} MB/s; ${waits.inWords()}; shares ${shares}`
    return { processes, rate: flushed / seconds, note }
  })
}
