import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { markUsage } from '../../src/mark/mark.ts'
import type { TestDatabase } from '../support/database.ts'
import { flushedByJobs } from '../support/jobs.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, pendingCount } from '../support/seed.ts'
import { Random } from './history/random.ts'

const PERIOD_MS = 300
const WORKSPACES = 200
const IDS_OF_A_MARK = 10

/** Times in milliseconds since 1970. Client and server are on one machine. */
interface LastMark {
  before: number
  after: number
}

/**
 * Marks workspaces at random while something else is broken, and keeps what it did. At the end it asks whether the
 * workers consumed each stored mark once, and whether each `last_used_at` is that of the last mark.
 */
export class KeptMarks {
  readonly #database: TestDatabase
  readonly #ids: string[]
  readonly #random: Random
  readonly #lastMarks = new Map<string, LastMark>()
  #stored = 0
  #stopped = false
  #marking: Promise<void> = Promise.resolve()

  static async start(database: TestDatabase, seed: number): Promise<KeptMarks> {
    await setPeriodLength(database.pool, PERIOD_MS / 1_000)
    const marks = new KeptMarks(database, await createWorkspaces(database.pool, WORKSPACES), seed)
    marks.#marking = marks.#mark()
    return marks
  }

  private constructor(database: TestDatabase, ids: string[], seed: number) {
    this.#database = database
    this.#ids = ids
    this.#random = new Random(seed)
  }

  /** How many marks are stored so far. */
  get stored(): number {
    return this.#stored
  }

  /** Stops marking. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#marking
  }

  /**
   * Waits until the workers have flushed all, tells what became of the marks, and asserts it.
   *
   * @param since When the fault was over, by `performance.now()`.
   */
  async assertFlushedOnce(t: TestContext, since: number, { timeoutMs = 20_000 } = {}): Promise<void> {
    await this.stop()
    const { pool } = this.#database
    await until('all marks are flushed', async () => (await pendingCount(pool)) === 0, { timeoutMs })
    const seconds = ((performance.now() - since) / 1_000).toFixed(1)
    // The counts of a job commit with the flush, so they tell of a mark that was consumed twice.
    const survived = await flushedByJobs(pool)
    const lost = this.#stored - survived
    t.diagnostic(`marked ${this.#stored}, survived ${survived}, lost ${lost}, recovered in ${seconds} s`)
    assert.equal(lost, 0)
    await this.#assertExact()
  }

  async #assertExact(): Promise<void> {
    const { rows } = await this.#database.pool.query(
      'SELECT id, extract(epoch FROM last_used_at)::float8 * 1000 AS used_at FROM workspaces',
    )
    for (const { id, used_at } of rows) {
      const last = this.#lastMarks.get(id)
      if (last === undefined) assert.equal(used_at, null, `${id} was never marked`)
      else {
        assert.ok(used_at > last.before, `${id} seems used ${last.before - used_at} ms before its last mark`)
        assert.ok(used_at <= last.after + PERIOD_MS, `${id} seems used later than it can have been`)
      }
    }
  }

  async #mark(): Promise<void> {
    while (!this.#stopped) {
      const ids = this.#random.distinct(IDS_OF_A_MARK, WORKSPACES).map(place => this.#ids[place]!)
      const before = Date.now()
      const { stored } = await markUsage(this.#database.pool, ids, { source: 'test' })
      this.#stored += stored
      for (const id of ids) this.#lastMarks.set(id, { before, after: Date.now() })
      await delay(10)
    }
  }
}
