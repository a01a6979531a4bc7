import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { markUsage } from '../../src/mark/mark.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { type FlushWorker, startFlushWorker } from '../../src/worker/worker.ts'
import { atEnd } from '../support/at-end.ts'
import type { TestDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { collectLog } from '../support/log-lines.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt } from '../support/seed.ts'

const PERIOD_MS = 500
/** Marked again and again. All others are marked once, so that each mark that is lost is seen. */
const HOT = 10
const IDS_OF_A_MARK = 5
/** How long a marker waits for an answer, and for a connection. */
const ANSWER_MS = 1_000

/** Times of an acknowledged mark, in milliseconds since 1970. Client and server are on one machine. */
interface Acknowledged {
  before: number
  after: number
}

/** See {@link startLoad}. */
export interface LoadOptions {
  /** The address that markers and workers use. Default: the database's own. */
  through?: string
  workers?: number
  workspaces?: number
}

/**
 * Marks by a tracker and by `markUsage`, as fast as the database acknowledges, and flushes by workers, while something
 * else is broken. At the end it tells which acknowledged marks were lost.
 */
export async function startLoad(database: TestDatabase, options: LoadOptions = {}): Promise<Load> {
  const { through = database.connectionString, workers = 2, workspaces = 20_000 } = options
  await setPeriodLength(database.pool, PERIOD_MS / 1_000)
  const load = new Load(await createWorkspaces(database.pool, workspaces), through)
  for (let worker = 0; worker < workers; worker++) {
    load.workers.push(
      await startFlushWorker({
        database: through,
        logger: load.log.logger,
        flushIntervalSeconds: 1,
        flushTimeoutSeconds: ANSWER_MS / 1_000,
      }),
    )
  }
  load.start()
  // Also if the test fails.
  atEnd(() => load.stop())
  return load
}

/** See {@link startLoad}. */
export class Load {
  /** What the tracker and all workers have logged. */
  readonly log = collectLog()
  readonly workers: FlushWorker[] = []
  readonly #hot: string[]
  readonly #fresh: string[]
  readonly #acknowledged = new Map<string, Acknowledged>()
  readonly #pool: pg.Pool
  readonly #tracker: UsageTracker
  #lanes: Promise<unknown> = Promise.resolve()
  #marks = true
  #stopped: Promise<unknown> | undefined
  #lastAcknowledged = performance.now()
  #longestGapMs = 0

  constructor(ids: string[], through: string) {
    this.#hot = ids.slice(0, HOT)
    this.#fresh = ids.slice(HOT)
    this.#pool = heardPool({
      connectionString: through,
      max: 4,
      application_name: 'load',
      connectionTimeoutMillis: ANSWER_MS,
      query_timeout: ANSWER_MS,
    })
    this.#tracker = new UsageTracker(this.#pool, {
      source: 'tracker',
      statementTimeoutMs: ANSWER_MS,
      logger: this.log.logger,
    })
  }

  /** Starts marking. */
  start(): void {
    const lanes = [this.#lane(ids => this.#track(ids)), this.#lane(ids => this.#mark(ids))]
    this.#lanes = Promise.all(lanes)
  }

  /** How many distinct workspaces have an acknowledged mark. */
  get marked(): number {
    return this.#acknowledged.size
  }

  /** Seconds of the longest time in which no mark of the tracker was acknowledged. */
  get trackerGapSeconds(): number {
    return Math.max(this.#longestGapMs, performance.now() - this.#lastAcknowledged) / 1_000
  }

  /** Forgets the gaps until now. */
  measureGapFromNow(): void {
    this.#lastAcknowledged = performance.now()
    this.#longestGapMs = 0
  }

  /** What is flushed at this moment. */
  async flushed(pool: pg.Pool): Promise<Map<string, Date>> {
    const ids = [...this.#acknowledged.keys()]
    const times = await lastUsedAt(pool, ids)
    return new Map(ids.flatMap((id, place) => (times[place] ? [[id, times[place]] as const] : [])))
  }

  /** Waits until a mark that is acknowledged after this moment is flushed. @returns seconds */
  async untilFlushedAgain(pool: pg.Pool, timeoutMs = 60_000): Promise<number> {
    const since = { wall: Date.now(), monotonic: performance.now() }
    await until(
      'a new mark is flushed',
      async () => {
        const later = [...this.#acknowledged].filter(([, { before }]) => before > since.wall)
        const times = await lastUsedAt(pool, [...new Map(later).keys()])
        return later.some(([, mark], place) => covers(times[place]!, mark))
      },
      { timeoutMs, intervalMs: 50 },
    )
    return (performance.now() - since.monotonic) / 1_000
  }

  /** Stops marking, and the workers. A second call waits for the first. */
  stop(): Promise<unknown> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  /**
   * Stops marking, waits until all is flushed, and tells what became of the marks.
   *
   * @param lostBefore Marks that were acknowledged before this time may be lost, in milliseconds since 1970. Default:
   *   none may be lost.
   * @returns how many are lost
   */
  async judge(
    t: TestContext,
    pool: pg.Pool,
    { lostBefore = 0, recovery = '' }: { lostBefore?: number; recovery?: string } = {},
  ): Promise<number> {
    await this.#stopMarking()
    await until('all marks are flushed', () => nothingPending(pool), { timeoutMs: 30_000, intervalMs: 50 })
    const ids = [...this.#acknowledged.keys()]
    const times = await lastUsedAt(pool, ids)
    const lost = ids.filter((id, place) => !covers(times[place]!, this.#acknowledged.get(id)!))
    const [marked, survived] = [ids.length, ids.length - lost.length]
    t.diagnostic(`marked ${marked}, survived ${survived}, lost ${lost.length}, ${recovery}`)
    assert.ok(marked > 100, `only ${marked} workspaces were marked`)
    for (const id of lost) {
      const { after } = this.#acknowledged.get(id)!
      assert.ok(
        after < lostBefore,
        `a mark that was acknowledged at ${new Date(after).toISOString()} is lost`,
      )
    }
    await this.stop()
    return lost.length
  }

  async #lane(mark: (ids: string[]) => Promise<boolean>): Promise<void> {
    while (this.#marks && this.#fresh.length > 0) {
      const ids = [...this.#fresh.splice(-IDS_OF_A_MARK), ...this.#hot]
      const before = Date.now()
      if (await mark(ids)) {
        const after = Date.now()
        for (const id of ids) this.#acknowledged.set(id, { before, after })
      }
      await delay(10)
    }
  }

  async #track(ids: string[]): Promise<boolean> {
    for (const id of ids) this.#tracker.mark(id)
    try {
      await this.#tracker.drain()
    } catch {
      return false
    }
    const now = performance.now()
    this.#longestGapMs = Math.max(this.#longestGapMs, now - this.#lastAcknowledged)
    this.#lastAcknowledged = now
    return true
  }

  async #mark(ids: string[]): Promise<boolean> {
    return await markUsage(this.#pool, ids, { source: 'markUsage' }).then(
      () => true,
      // markUsage itself never tries again. A caller that does should pause.
      () => delay(500, false),
    )
  }

  async #stopMarking(): Promise<void> {
    this.#marks = false
    await this.#tracker.close({ timeoutMs: 5_000 })
    await this.#lanes
  }

  async #stop(): Promise<void> {
    await this.#stopMarking()
    await Promise.all(this.workers.map(worker => worker.stop()))
    await this.#pool.end()
  }
}

function covers(time: Date | null, { before }: Acknowledged): boolean {
  return time !== null && time.getTime() >= before
}

async function nothingPending(pool: pg.Pool): Promise<boolean> {
  const { rows } = await pool.query(
    'SELECT count(*) + (SELECT count(*) FROM set_aside_usage) = 0 AS nothing FROM pending_usage',
  )
  return rows[0].nothing
}
