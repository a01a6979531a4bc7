import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { grantPrivileges } from '../../src/access/grant.ts'
import { usageHealth } from '../../src/activity/health.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import type { TestDatabase } from '../support/database.ts'
import { collectLog, type LogLine } from '../support/log-lines.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import type { LoginRole } from '../support/roles.ts'
import { createWorkspaces } from '../support/seed.ts'

/*
 * One service has gone mad, and marks ids that do not exist, as fast as it can. All others mark real workspaces
 * meanwhile. Each real workspace is marked once, so a mark that is kept waiting shows.
 */

/** So many ids has each statement of the mad one. */
const MAD_BATCH = 10_000

/** A real mark follows the other after this time. */
const PAUSE_MS = 20

const PERIOD_SECONDS = 0.5

/** How long the others mark alone, for comparison. */
const CALM_MS = 3_000

export interface MadOptions {
  /** Ids that do not exist. */
  ids: number
  /** Marks of them are looked at again until they are so old. */
  unknownAfterSeconds: number
  /** How long any real mark may take until it is flushed. */
  flushedWithinSeconds: number
  timeoutMs: number
}

export async function markMadly(
  mad: LoginRole,
  database: TestDatabase,
  { ids, unknownAfterSeconds, flushedWithinSeconds, timeoutMs }: MadOptions,
  t: TestContext,
): Promise<void> {
  const { pool, connectionString } = database
  await setPeriodLength(pool, PERIOD_SECONDS)
  await grantPrivileges(pool, { markers: [mad.name] })
  const log = collectLog()
  const worker = await startFlushWorker({
    database: connectionString,
    logger: log.logger,
    flushIntervalSeconds: 1,
    unknownAfterSeconds,
  })
  const others = new Others(pool)
  const busy = new BusyHost(database)
  const marking = Promise.all([others.mark(), busy.work()])
  await delay(CALM_MS)
  const calm = others.takeTimes()

  const started = performance.now()
  const sizes = new Sizes(pool)
  const sizing = sizes.watch()
  await goMad(mad.pool(database), ids)
  const madSeconds = since(started)
  const storm = others.takeTimes()
  const problem = await until('the verdict names it', async () =>
    (await usageHealth(pool)).problems.find(({ code }) => code === 'unknown'),
  )
  await until('the mad marks are digested', () => digested(pool), { timeoutMs, intervalMs: 250 })
  const digestedSeconds = since(started)
  const after = others.takeTimes()
  others.stop()
  busy.stop()
  await marking
  await until('all real marks are flushed', () => others.allFlushed(), { timeoutMs: 60_000 })
  sizes.stop()
  await sizing
  await worker.stop()

  const lags = others.lags()
  t.diagnostic(
    `${ids} mad marks in ${madSeconds.toFixed(1)} s, digested after ${digestedSeconds.toFixed(1)} s; ` +
      `${lags.length} real marks, all flushed, after ${quantiles(lags)} s`,
  )
  const heldLags = busy.lags.toSorted((one, other) => one - other)
  t.diagnostic(
    `${heldLags.length} marks of workspaces that were locked, flushed ${quantiles(heldLags)} s after the lock`,
  )
  t.diagnostic(
    `a mark, in ms: alone ${quantiles(calm)}; in the storm ${quantiles(storm)}; after it ${quantiles(after)}`,
  )
  t.diagnostic(`a flush, in ms: ${quantiles(durations(log.lines))}; jobs: ${await sizes.jobs()}`)
  t.diagnostic(`the largest, in MB: ${sizes.largest()}`)
  t.diagnostic(`the operator sees: ${problem.message}`)
  assert.ok(lags.at(-1)! < flushedWithinSeconds, `a real mark was flushed after ${lags.at(-1)} s`)
  assert.ok(heldLags.at(-1)! < flushedWithinSeconds, `a held mark was flushed after ${heldLags.at(-1)} s`)
}

async function goMad(pool: pg.Pool, ids: number): Promise<void> {
  for (let left = ids; left > 0; left -= MAD_BATCH) {
    await pool.query(
      `INSERT INTO pending_usage (workspace_id, source)
      SELECT gen_random_uuid(), 'mad' FROM generate_series(1, $1) ON CONFLICT DO NOTHING`,
      [Math.min(left, MAD_BATCH)],
    )
  }
}

/** The services that mark real workspaces, each once, and when these marks were flushed. */
class Others {
  readonly #pool: pg.Pool
  #stopped = false
  #latencies: number[] = []
  readonly #lags: number[] = []
  /** When each workspace was marked whose mark is not flushed yet. */
  readonly #waiting = new Map<string, number>()

  constructor(pool: pg.Pool) {
    this.#pool = pool
  }

  async mark(): Promise<void> {
    while (!this.#stopped) {
      for (const id of await createWorkspaces(this.#pool, 50)) {
        const started = performance.now()
        await markUsage(this.#pool, id, { source: 'ssh' })
        this.#latencies.push(performance.now() - started)
        this.#waiting.set(id, performance.now())
        await delay(PAUSE_MS)
      }
      await this.allFlushed()
    }
  }

  stop(): void {
    this.#stopped = true
  }

  /** The times that the last marks took, in ms. */
  takeTimes(): number[] {
    const times = this.#latencies
    this.#latencies = []
    return times
  }

  async allFlushed(): Promise<boolean> {
    const { rows } = await this.#pool.query(
      'SELECT id FROM workspaces WHERE id = ANY ($1) AND last_used_at IS NOT NULL',
      [[...this.#waiting.keys()]],
    )
    for (const { id } of rows) {
      this.#lags.push(since(this.#waiting.get(id)!))
      this.#waiting.delete(id)
    }
    return this.#waiting.size === 0
  }

  /** Seconds from each mark until it was seen to be flushed, sorted. */
  lags(): number[] {
    return this.#lags.toSorted((one, other) => one - other)
  }
}

/** An application that has locked a marked workspace while flushes come, again and again. */
class BusyHost {
  /** Seconds from the end of each lock until the mark was flushed. */
  readonly lags: number[] = []
  readonly #database: TestDatabase
  #stopped = false

  constructor(database: TestDatabase) {
    this.#database = database
  }

  async work(): Promise<void> {
    const { pool } = this.#database
    const host = await this.#database.connect()
    const is = async (condition: string, id: string) =>
      (await pool.query(`SELECT EXISTS (${condition}) AS is`, [id])).rows[0].is as boolean
    while (!this.#stopped) {
      const [id] = await createWorkspaces(pool, 1)
      await host.query('BEGIN')
      await host.query('SELECT FROM workspaces WHERE id = $1 FOR UPDATE', [id])
      await markUsage(pool, id!, { source: 'ide' })
      await until(
        'the mark is held',
        () => is('SELECT FROM set_aside_usage WHERE workspace_id = $1', id!),
        LONG,
      )
      await host.query('COMMIT')
      const free = performance.now()
      await until(
        'the mark is flushed',
        () => is('SELECT FROM workspaces WHERE id = $1 AND last_used_at IS NOT NULL', id!),
        LONG,
      )
      this.lags.push(since(free))
    }
  }

  stop(): void {
    this.#stopped = true
  }
}

const LONG = { timeoutMs: 600_000, intervalMs: 50 }

const TABLES = ['pending_usage', 'pending_usage_pkey', 'set_aside_usage', 'pgboss.job']

/** The largest sizes of the tables. */
class Sizes {
  readonly #pool: pg.Pool
  readonly #largest = new Map<string, number>()
  #stopped = false

  constructor(pool: pg.Pool) {
    this.#pool = pool
  }

  async watch(): Promise<void> {
    while (!this.#stopped) {
      const { rows } = await this.#pool.query(
        `SELECT name, pg_total_relation_size(name::regclass) AS bytes FROM unnest($1::text[]) AS name`,
        [TABLES],
      )
      for (const { name, bytes } of rows) {
        this.#largest.set(name, Math.max(this.#largest.get(name) ?? 0, Number(bytes)))
      }
      await delay(250)
    }
  }

  stop(): void {
    this.#stopped = true
  }

  largest(): string {
    return [...this.#largest].map(([name, bytes]) => `${name} ${Math.round(bytes / 1e6)}`).join(', ')
  }

  async jobs(): Promise<number> {
    const { rows } = await this.#pool.query('SELECT count(*)::int AS jobs FROM pgboss.job')
    return rows[0].jobs
  }
}

async function digested(pool: pg.Pool): Promise<boolean> {
  const { rows } = await pool.query(
    `SELECT NOT EXISTS (SELECT FROM set_aside_usage)
      AND NOT EXISTS (SELECT FROM ONLY pending_usage WHERE source = 'mad') AS digested`,
  )
  return rows[0].digested
}

function durations(lines: readonly LogLine[]): number[] {
  return lines.flatMap(({ fields }) => (typeof fields.durationMs === 'number' ? [fields.durationMs] : []))
}

function since(moment: number): number {
  return (performance.now() - moment) / 1_000
}

/** Of unsorted numbers: the median, the 99th percentile, and the largest. */
function quantiles(numbers: readonly number[]): string {
  const sorted = numbers.toSorted((one, other) => one - other)
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]?.toFixed(1)
  return `p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)}`
}
