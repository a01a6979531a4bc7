import { readFileSync } from 'node:fs'
import pg from 'pg'
import { drain } from '../src/flush/drain.ts'
import { UsageTracker } from '../src/mark/tracker.ts'
import { withBenchDatabase } from './database.ts'
import { type Measurement, median, timed, turn } from './measurement.ts'

/** Numbers of active workspaces. The batches are those of which docs/sizing.md speaks. */
const SIZES = [
  { workspaces: 1_000, batchSize: 1_500, rounds: 7 },
  { workspaces: 100_000, batchSize: 1_500, rounds: 3 },
  { workspaces: 100_000, batchSize: 10_000, rounds: 3 },
  { workspaces: 1_000_000, batchSize: 10_000, rounds: 1 },
]

/** Ticks of the kernel's clock in a second, as /proc counts the time of a process. */
const TICKS_PER_SECOND = 100

/** What storing or flushing of all workspaces cost. */
interface Cost {
  seconds: number
  /** CPU time of the server's process. NaN if it does not run on this machine. */
  cpuSeconds: number
  walBytes: number
}

/**
 * Measures what active workspaces cost in each period: the marks of all of them by one source are stored by a tracker,
 * and flushed by one worker's connection.
 *
 * @param server Connection string of a server on which a database may be created. It is dropped afterwards.
 * @param progress Called before each measure.
 */
export async function measureSizing(
  server: string,
  progress: (step: string) => void,
): Promise<Measurement[]> {
  const measurements: Measurement[] = []
  for (const size of SIZES) {
    progress(`${size.workspaces} workspaces, batches of ${size.batchSize}`)
    measurements.push(
      ...(await withBenchDatabase(server, connectionString => measureSize(connectionString, size))),
    )
  }
  return measurements
}

async function measureSize(
  connectionString: string,
  { workspaces, batchSize, rounds }: (typeof SIZES)[number],
): Promise<Measurement[]> {
  // One connection, so that the CPU time of its process is that of the work.
  const pool = new pg.Pool({ connectionString, max: 1, application_name: 'bench' })
  pool.on('error', () => {})
  try {
    const { rows } = await pool.query<{ id: string }>(
      'INSERT INTO workspaces SELECT FROM generate_series(1, $1) RETURNING id',
      [workspaces],
    )
    const ids = rows.map(row => row.id)
    const marks: Cost[] = []
    const flushes: Cost[] = []
    let pendingSize = 0
    // The first round makes the rows of workspace_usage, and is not counted.
    for (let round = 0; round <= rounds; round++) {
      await pool.query('CHECKPOINT')
      const mark = await costOf(pool, () => storeByTracker(pool, ids))
      pendingSize = Math.max(pendingSize, await sizeOf(pool, 'pending_usage'))
      await closePeriods(pool)
      const flush = await costOf(pool, () => drain(pool, { batchSize, timeoutSeconds: 600 }))
      await pool.query('VACUUM workspaces, workspace_usage, pending_usage')
      if (round === 0) continue
      marks.push(mark)
      flushes.push(flush)
    }
    const sizes = await Promise.all(['workspaces', 'workspace_usage'].map(table => sizeOf(pool, table)))
    const name = `${workspaces} workspaces`
    return [
      { measure: `${name}: to store a mark of each`, result: inWords(marks, workspaces), comparison: '' },
      {
        measure: `${name}: to flush them in batches of ${batchSize}`,
        result: inWords(flushes, workspaces),
        comparison: `pending_usage ${mb(pendingSize)}, workspaces ${mb(sizes[0]!)}, workspace_usage ${mb(sizes[1]!)}`,
      },
    ]
  } finally {
    await pool.end()
  }
}

async function storeByTracker(pool: pg.Pool, ids: readonly string[]): Promise<void> {
  const tracker = new UsageTracker(pool, { source: 'bench', statementTimeoutMs: 600_000 })
  for (const [index, id] of ids.entries()) {
    tracker.mark(id)
    if (index % 5_000 === 0) await turn()
  }
  await tracker.close({ timeoutMs: 600_000 })
}

/** All marks become marks of one closed period. */
async function closePeriods(pool: pg.Pool): Promise<void> {
  await pool.query(`CREATE TEMP TABLE marked AS SELECT DISTINCT workspace_id FROM pending_usage;
    TRUNCATE ONLY pending_usage;
    INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT now() - interval '1 s', workspace_id, 'bench' FROM marked;
    DROP TABLE marked`)
}

async function costOf(pool: pg.Pool, work: () => Promise<unknown>): Promise<Cost> {
  const before = await usage(pool)
  const seconds = (await timed(work)) / 1_000
  const after = await usage(pool)
  return {
    seconds,
    cpuSeconds: after.cpuSeconds - before.cpuSeconds,
    walBytes: after.walBytes - before.walBytes,
  }
}

async function usage(pool: pg.Pool): Promise<{ cpuSeconds: number; walBytes: number }> {
  const { rows } = await pool.query(
    "SELECT pg_backend_pid() AS pid, (pg_current_wal_insert_lsn() - '0/0')::text AS bytes",
  )
  return { cpuSeconds: cpuSecondsOf(rows[0].pid), walBytes: Number(rows[0].bytes) }
}

/** User and system time, the fields 14 and 15. The second field is a name in parentheses, which may hold spaces. */
function cpuSecondsOf(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
  } catch {
    return Number.NaN
  }
}

async function sizeOf(pool: pg.Pool, table: string): Promise<number> {
  const { rows } = await pool.query('SELECT pg_total_relation_size($1::regclass)::text AS bytes', [table])
  return Number(rows[0].bytes)
}

function inWords(costs: readonly Cost[], marks: number): string {
  const of = (part: keyof Cost) => median(costs.map(cost => cost[part]))
  return (
    `${of('seconds').toFixed(2)} s, CPU of the server ${of('cpuSeconds').toFixed(2)} s, ` +
    `WAL ${Math.round(of('walBytes') / marks)} bytes a mark`
  )
}

function mb(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`
}
