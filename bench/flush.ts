import { randomBytes } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import { drain } from '../src/drain.ts'
import { DEFAULT_BATCH_SIZE, flush } from '../src/flush.ts'
import { migrate } from '../src/migrate.ts'

/** One measured row, and what it is to be compared with. */
export interface Measurement {
  measure: string
  result: string
  comparison: string
}

const WORKSPACES = 1_000_000
const ROUNDS = 9

/**
 * What a flush costs, in a database of a million workspaces. Each measure alternates with its comparison; the figures
 * are medians, in milliseconds unless they say otherwise.
 *
 * @param server Connection string of a server on which a database may be created; it is dropped afterwards.
 * @param progress Told what is being measured.
 */
export async function measureFlush(server: string, progress: (step: string) => void): Promise<Measurement[]> {
  const name = `usage_bench_${randomBytes(4).toString('hex')}`
  const admin = new pg.Client({ connectionString: server })
  await admin.connect()
  await admin.query(`CREATE DATABASE ${pg.escapeIdentifier(name)}`)
  const url = new URL(server)
  url.pathname = name
  const pool = new pg.Pool({ connectionString: url.href, max: 20, application_name: 'bench' })
  try {
    await migrate({ connectionString: url.href })
    progress(`creating ${WORKSPACES} workspaces`)
    await createWorkspaces(pool)
    const measurements: Measurement[] = []
    for (const batchSize of [1_000, 2_000, 3_000, 5_000, 10_000]) {
      progress(`flushing ${batchSize} marks`)
      measurements.push(await measureBatch(pool, batchSize))
    }
    progress('what keeping the sources costs')
    measurements.push(await measureSources(pool))
    progress('draining 200,000 marks while others are made')
    measurements.push(await measureMarksDuringDrain(pool))
    progress('WAL of a mark')
    measurements.push(await measureWal(pool))
    return measurements
  } finally {
    await pool.end()
    await admin.query(`DROP DATABASE ${pg.escapeIdentifier(name)} WITH (FORCE)`)
    await admin.end()
  }
}

async function createWorkspaces(pool: pg.Pool): Promise<void> {
  await pool.query('INSERT INTO workspaces SELECT FROM generate_series(1, $1)', [WORKSPACES])
  await pool.query(
    `CREATE TABLE shuffled AS SELECT id, row_number() OVER (ORDER BY random()) AS place FROM workspaces`,
  )
  await pool.query('CREATE INDEX ON shuffled (place)')
  await pool.query(`INSERT INTO workspace_usage SELECT id, 'ssh', '-infinity' FROM workspaces`)
  await pool.query('VACUUM ANALYZE')
  await pool.query('CHECKPOINT')
}

/** Marks of workspaces chosen at random, which is the worst case for every cache. */
async function storeMarks(pool: pg.Pool, count: number): Promise<void> {
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT clock_timestamp() - interval '1 ms', id, 'ssh' FROM shuffled WHERE place > $1 AND place <= $1 + $2`,
    [Math.floor(Math.random() * (WORKSPACES - count)), count],
  )
}

/** The time of a flush is the longest that a workspace in it stays locked for the application. */
async function measureBatch(pool: pg.Pool, batchSize: number): Promise<Measurement> {
  const flushes: number[] = []
  const updates: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    await storeMarks(pool, batchSize)
    const ids = (await pool.query('SELECT workspace_id AS id FROM pending_usage')).rows.map(({ id }) => id)
    flushes.push(await timed(() => flush(pool, { batchSize })))
    updates.push(
      await timed(() => pool.query('UPDATE workspaces SET last_used_at = now() WHERE id = ANY ($1)', [ids])),
    )
  }
  return {
    measure: `flush of ${batchSize} marks${batchSize === DEFAULT_BATCH_SIZE ? ' (the default)' : ''}`,
    result: `${ms(median(flushes))}, at worst ${ms(Math.max(...flushes))}`,
    comparison: `${ms(median(updates))} for UPDATE … = ANY of the same workspaces`,
  }
}

async function measureSources(pool: pg.Pool): Promise<Measurement> {
  const count = 10_000
  const times: Record<'with' | 'without', number[]> = { with: [], without: [] }
  for (let round = 0; round < ROUNDS; round++) {
    for (const sources of [true, false]) {
      await storeMarks(pool, count)
      times[sources ? 'with' : 'without'].push(await timed(() => flush(pool, { batchSize: count, sources })))
    }
  }
  return {
    measure: `flush of ${count} marks with use by source`,
    result: ms(median(times.with)),
    comparison: `${ms(median(times.without))} without`,
  }
}

/** Promise 1: 2,000 marks a second of the ids that are being flushed, beside the same with one row per workspace. */
async function measureMarksDuringDrain(pool: pg.Pool): Promise<Measurement> {
  const count = 200_000
  await pool.query('CREATE UNLOGGED TABLE pending_by_workspace (workspace_id uuid PRIMARY KEY)')
  const ids = (await pool.query('SELECT id FROM shuffled WHERE place <= $1', [count])).rows.map(
    ({ id }) => id,
  )
  const ours = 'INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING'
  const single = 'INSERT INTO pending_by_workspace (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING'

  await pool.query(
    `INSERT INTO pending_usage SELECT clock_timestamp() - interval '1 ms', unnest($1::uuid[]), 'ssh'`,
    [ids],
  )
  const oursTimes = await marksWhile(pool, ours, ids, () => flush(pool, { batchSize: 100_000 }))
  let drained = 0
  const drainMs = await timed(async () => {
    drained = (await drain(pool)).flushed
  })
  await pool.query('INSERT INTO pending_by_workspace SELECT unnest($1::uuid[])', [ids])
  const singleTimes = await marksWhile(pool, single, ids, () =>
    pool.query(
      `WITH due AS (DELETE FROM pending_by_workspace RETURNING workspace_id)
      UPDATE workspaces SET last_used_at = now() FROM due WHERE id = workspace_id`,
    ),
  )
  return {
    measure: `a mark while ${count / 2} or more rows are flushed in one transaction`,
    result: `p50 ${ms(quantile(oursTimes, 0.5))}, p99 ${ms(quantile(oursTimes, 0.99))}; drain ${Math.round((drained / drainMs) * 1000)} marks/s`,
    comparison: `p50 ${ms(quantile(singleTimes, 0.5))}, p99 ${ms(quantile(singleTimes, 0.99))} with PRIMARY KEY (workspace_id)`,
  }
}

/** Makes 2,000 marks a second for as long as something runs, each with its time from when it was due. */
async function marksWhile(
  pool: pg.Pool,
  mark: string,
  ids: readonly string[],
  work: () => Promise<unknown>,
): Promise<number[]> {
  const times: number[] = []
  const marks: Promise<void>[] = []
  let working = true
  const done = work().finally(() => {
    working = false
  })
  while (working) {
    for (let i = 0; i < 10; i++) {
      const id = ids[Math.floor(Math.random() * ids.length)]
      marks.push(timed(() => pool.query(mark, [id])).then(time => void times.push(time)))
    }
    await setTimeout(5)
  }
  await done
  await Promise.all(marks)
  return times
}

async function measureWal(pool: pg.Pool): Promise<Measurement> {
  const count = 20_000
  await pool.query(`CREATE TABLE pending_with_key (
    period_end timestamptz DEFAULT usage_period_end(), workspace_id uuid REFERENCES workspaces,
    PRIMARY KEY (period_end, workspace_id))`)
  const ids = (await pool.query('SELECT id FROM shuffled ORDER BY place DESC LIMIT $1', [count])).rows
  const walOf = async (table: string) => {
    const position = async () =>
      (await pool.query('SELECT pg_current_wal_insert_lsn() - $1 AS at', ['0/0'])).rows
    const before = Number((await position())[0].at)
    const client = await pool.connect()
    for (const { id } of ids) {
      await client.query(`INSERT INTO ${table} (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING`, [id])
    }
    client.release()
    return (Number((await position())[0].at) - before) / count
  }
  await pool.query('CHECKPOINT')
  const unlogged = await walOf('pending_usage')
  const logged = await walOf('pending_with_key')
  return {
    measure: 'WAL of a mark',
    result: `${Math.round(unlogged)} bytes`,
    comparison: `${Math.round(logged)} bytes, logged and with a foreign key (full-page images included)`,
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return performance.now() - started
}

function median(times: readonly number[]): number {
  return quantile(times, 0.5)
}

function quantile(times: readonly number[], share: number): number {
  const sorted = [...times].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
}

function ms(time: number): string {
  return `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`
}
