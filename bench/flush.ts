import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import { drain } from '../src/flush/drain.ts'
import { DEFAULT_BATCH_SIZE, flush } from '../src/flush/flush.ts'
import { withBenchDatabase } from './database.ts'
import { type Measurement, medians, ms, timed } from './measurement.ts'

const WORKSPACES = 1_000_000
const ROUNDS = 15

/** The longest time, in ms, that an application may have to wait for a workspace that is being flushed. */
const LONGEST_LOCK_MS = 50

/**
 * Measures what a flush costs in a database of a million workspaces. Each measure stands beside its comparison.
 *
 * @param server Connection string of a server on which a database may be created. It is dropped afterwards.
 * @param progress Called before each measure.
 */
export function measureFlush(server: string, progress: (step: string) => void): Promise<Measurement[]> {
  return withBenchDatabase(server, async connectionString => {
    const pool = new pg.Pool({ connectionString, max: 20, application_name: 'bench' })
    // The database is dropped while the last connections are still closing.
    pool.on('error', () => {})
    try {
      progress(`creating ${WORKSPACES} workspaces`)
      await createWorkspaces(pool)
      const measurements: Measurement[] = []
      for (const batchSize of [1_000, 1_500, 2_000, 3_000, 5_000, 10_000]) {
        progress(`flushing ${batchSize} marks`)
        measurements.push(await measureBatch(pool, batchSize))
      }
      progress('use by source')
      measurements.push(await measureSources(pool))
      progress('marks during a flush')
      measurements.push(await measureMarksDuringFlush(pool))
      progress('draining a backlog')
      measurements.push(await measureDrain(pool))
      progress('WAL of a mark')
      measurements.push(await measureWal(pool))
      return measurements
    } finally {
      await pool.end()
    }
  })
}

async function createWorkspaces(pool: pg.Pool): Promise<void> {
  await pool.query('INSERT INTO workspaces SELECT FROM generate_series(1, $1)', [WORKSPACES])
  await pool.query(
    'CREATE TABLE shuffled AS SELECT id, row_number() OVER (ORDER BY random()) AS place FROM workspaces',
  )
  await pool.query('CREATE INDEX ON shuffled (place)')
  await pool.query(`INSERT INTO workspace_usage SELECT id, 'ssh', '-infinity' FROM workspaces`)
  await pool.query('VACUUM ANALYZE')
  await pool.query('CHECKPOINT')
}

/** Stores marks of random workspaces, the worst case for every cache. Returns the ids. */
async function storeMarks(pool: pg.Pool, count: number): Promise<string[]> {
  const { rows } = await pool.query<{ workspace_id: string }>(
    `INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT clock_timestamp() - interval '1 ms', id, 'ssh' FROM shuffled WHERE place > $1 AND place <= $1 + $2
    RETURNING workspace_id`,
    [Math.floor(Math.random() * (WORKSPACES - count)), count],
  )
  return rows.map(row => row.workspace_id)
}

/** A workspace can be locked for the whole time of a flush. */
async function measureBatch(pool: pg.Pool, batchSize: number): Promise<Measurement> {
  let ids: string[] = []
  const update = 'UPDATE workspaces SET last_used_at = now() WHERE id = ANY ($1)'
  const times = await medians(ROUNDS, {
    flush: async () => {
      ids = await storeMarks(pool, batchSize)
      return timed(() => flush(pool, { batchSize }))
    },
    update: () => timed(() => pool.query(update, [ids])),
  })
  return {
    measure: `flush of ${batchSize} marks${batchSize === DEFAULT_BATCH_SIZE ? ' (the default)' : ''}`,
    result: ms(times.flush),
    comparison: `${ms(times.update)}: UPDATE … = ANY of as many workspaces`,
    ...(batchSize === DEFAULT_BATCH_SIZE && {
      target: `below ${LONGEST_LOCK_MS} ms`,
      reached: times.flush < LONGEST_LOCK_MS,
    }),
  }
}

async function measureSources(pool: pg.Pool): Promise<Measurement> {
  const batchSize = 10_000
  const flushing = async (sources: boolean) => {
    await storeMarks(pool, batchSize)
    return timed(() => flush(pool, { batchSize, sources }))
  }
  const times = await medians(ROUNDS, { with: () => flushing(true), without: () => flushing(false) })
  return {
    measure: `flush of ${batchSize} marks with use by source`,
    result: ms(times.with),
    comparison: `${ms(times.without)} without: ${Math.round((times.with / times.without - 1) * 100)} % more`,
    target: 'at most 40 % more, or a reason',
    reached: times.with <= times.without * 1.4,
  }
}

/** Marks ids that are being flushed, beside a table with one row per workspace. */
async function measureMarksDuringFlush(pool: pg.Pool): Promise<Measurement> {
  const count = 100_000
  const { rows } = await pool.query<{ id: string }>('SELECT id FROM shuffled WHERE place <= $1', [count])
  const ids = rows.map(row => row.id)
  await pool.query('CREATE UNLOGGED TABLE pending_by_workspace (workspace_id uuid PRIMARY KEY)')
  await pool.query('INSERT INTO pending_by_workspace SELECT unnest($1::uuid[])', [ids])
  await pool.query(
    `INSERT INTO pending_usage SELECT clock_timestamp() - interval '1 ms', unnest($1::uuid[]), 'ssh'`,
    [ids],
  )
  const ours = await marksWhile(pool, 'pending_usage', ids, () => flush(pool, { batchSize: count }))
  const byWorkspace = await marksWhile(pool, 'pending_by_workspace', ids, () =>
    pool.query(
      `WITH due AS (DELETE FROM pending_by_workspace RETURNING workspace_id)
      UPDATE workspaces SET last_used_at = now() FROM due WHERE id = workspace_id`,
    ),
  )
  return {
    measure: `a mark during one flush of ${count} rows, 2,000 marks/s`,
    result: quantiles(ours),
    comparison: `${quantiles(byWorkspace)}: PRIMARY KEY (workspace_id)`,
  }
}

/** Makes 2,000 marks a second while something runs. Returns the time of each mark. */
async function marksWhile(
  pool: pg.Pool,
  table: 'pending_usage' | 'pending_by_workspace',
  ids: readonly string[],
  work: () => Promise<unknown>,
): Promise<number[]> {
  const mark = `INSERT INTO ${table} (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING`
  const marks: Promise<number>[] = []
  let working = true
  const done = work().finally(() => {
    working = false
  })
  while (working) {
    for (let i = 0; i < 10; i++) {
      const id = ids[Math.floor(Math.random() * ids.length)]
      marks.push(timed(() => pool.query(mark, [id])))
    }
    await setTimeout(5)
  }
  await done
  return Promise.all(marks)
}

async function measureDrain(pool: pg.Pool): Promise<Measurement> {
  const count = 200_000
  await drain(pool)
  await storeMarks(pool, count)
  const time = await timed(() => drain(pool))
  return {
    measure: `draining a backlog of ${count} marks, default batches`,
    result: `${Math.round((count / time) * 1_000)} marks/s`,
    comparison: `${ms(time)} in ${Math.ceil(count / DEFAULT_BATCH_SIZE)} transactions`,
  }
}

async function measureWal(pool: pg.Pool): Promise<Measurement> {
  const count = 20_000
  await pool.query(`CREATE TABLE pending_with_key (
    period_end timestamptz DEFAULT usage_period_end(), workspace_id uuid REFERENCES workspaces,
    PRIMARY KEY (period_end, workspace_id))`)
  const { rows } = await pool.query('SELECT id FROM shuffled ORDER BY place DESC LIMIT $1', [count])
  const walOf = async (table: 'pending_usage' | 'pending_with_key') => {
    const mark = `INSERT INTO ${table} (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING`
    const before = await walPosition(pool)
    const client = await pool.connect()
    for (const { id } of rows) await client.query(mark, [id])
    client.release()
    return ((await walPosition(pool)) - before) / count
  }
  const unlogged = await walOf('pending_usage')
  const logged = await walOf('pending_with_key')
  return {
    measure: 'WAL of a mark',
    result: `${Math.round(unlogged)} bytes`,
    comparison: `${Math.round(logged)} bytes: a logged table with a foreign key, full-page images included`,
  }
}

async function walPosition(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query("SELECT pg_current_wal_insert_lsn() - '0/0' AS bytes")
  return Number(rows[0].bytes)
}

function quantiles(times: readonly number[]): string {
  const sorted = times.toSorted((one, other) => one - other)
  const at = (share: number) => ms(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!)
  return `p50 ${at(0.5)}, p99 ${at(0.99)}`
}
