import assert from 'node:assert/strict'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { suite, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces } from '../support/seed.ts'
import { startServer } from '../support/server.ts'
import { noteStatements, type SentStatement } from '../support/statements.ts'

/*
 * Several trackers mark thousands of workspaces at random while periods end and flushes run, and while connections and
 * servers break. The test keeps its own record of every call. At the end no last_used_at may be earlier than the
 * last mark. It also may not be later than one period after the mark was made or, if the mark had to wait, was stored.
 */

const TRACKERS = 3
const USED = 2_500
const UNUSED = 500

suite('trackers under fire', { concurrency: true }, () => {
  test('last_used_at is exact after twenty seconds of marks', async () => {
    const fire = await Fire.start(await createTestDatabase(), { periodMs: 1_500, durationMs: 20_000 })
    await delay(20_000)
    await fire.cease()
    await fire.assertExact()
    assert.equal(fire.failedAttempts, 0)
  })

  test('last_used_at is exact though all connections are cut every second', async () => {
    const database = await createTestDatabase()
    const fire = await Fire.start(database, { periodMs: 700, durationMs: 20_000 })
    const killer = await database.connect()
    for (let second = 0; second < 20; second++) {
      await killer.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
      )
      await delay(1_000)
    }
    await fire.cease()
    await fire.assertExact()
    assert.ok(fire.failedAttempts > 0)
  })

  test('last_used_at is exact though the server restarts and crashes, except for marks before a tracker noticed the crash', async () => {
    const server = await startServer()
    const database = await createTestDatabase({ on: server.connectionString })
    const fire = await Fire.start(database, { periodMs: 5_000, durationMs: 20_000 })
    await delay(3_000)
    await server.shutDown()
    await delay(1_000)
    await server.startUp()
    // By then most workspaces are stored for the period, and many get their last mark in the rest of it.
    await fire.untilPeriodIsOld(1_000)
    fire.expectLoss()
    await server.crash()
    await delay(8_000)
    await fire.cease()
    await fire.assertExact()
    assert.ok(fire.failedAttempts > 0)
  })
})

/** A tracker, and what the test knows of it. Times are milliseconds since 1970. */
interface Witnessed {
  tracker: UsageTracker
  pool: pg.Pool
  sent: SentStatement[]
  /** When each workspace was last marked through this tracker. */
  lastMarks: Map<string, number>
  /** The times at which it had reason to forget what is stored. */
  forgotAt: number[]
}

/** Trackers that mark, and flushes that run, until `cease`. */
class Fire {
  readonly #database: TestDatabase
  readonly #periodMs: number
  readonly #unused: string[]
  /** When each workspace gets its last mark. The times differ, so that last marks fall at any time of a period. */
  readonly #usedUntil: Map<string, number>
  readonly #witnessed: Witnessed[]
  readonly #loopDelay = monitorEventLoopDelay({ resolution: 5 })
  #burning: Promise<unknown> = Promise.resolve()
  #ceased = false
  #lossExpectedFrom = Number.POSITIVE_INFINITY

  static async start(
    database: TestDatabase,
    { periodMs, durationMs }: { periodMs: number; durationMs: number },
  ): Promise<Fire> {
    await setPeriodLength(database.pool, periodMs / 1_000)
    const fire = new Fire(
      database,
      periodMs,
      await createWorkspaces(database.pool, USED + UNUSED),
      durationMs,
    )
    fire.#loopDelay.enable()
    fire.#burning = Promise.all([...fire.#witnessed.map(witnessed => fire.#mark(witnessed)), fire.#flush()])
    return fire
  }

  private constructor(database: TestDatabase, periodMs: number, ids: string[], durationMs: number) {
    this.#database = database
    this.#periodMs = periodMs
    this.#unused = ids.slice(USED)
    this.#usedUntil = new Map(ids.slice(0, USED).map(id => [id, Date.now() + Math.random() * durationMs]))
    this.#witnessed = Array.from({ length: TRACKERS }, () => {
      const forgotAt: number[] = []
      const forget = () => forgotAt.push(Date.now())
      // A connection may be cut while nobody uses it, or in the moment in which it is handed out.
      const pool = heardPool({ connectionString: database.connectionString, max: 2 })
      atEnd(() => pool.end())
      const db = noteStatements(pool)
      const logger = { debug() {}, info() {}, warn: forget, error: forget }
      return {
        tracker: new UsageTracker(db, { logger }),
        pool,
        sent: db.sent,
        lastMarks: new Map(),
        forgotAt,
      }
    })
  }

  get failedAttempts(): number {
    return this.#witnessed.reduce((sum, { tracker }) => sum + tracker.stats().failedAttempts, 0)
  }

  /** From now on, what is stored may be lost until a tracker has reason to forget it. */
  expectLoss(): void {
    this.#lossExpectedFrom = Date.now()
  }

  /** Waits for the time `ageMs` after the next start of a period. */
  async untilPeriodIsOld(ageMs: number): Promise<void> {
    const periodEnd = Math.ceil(Date.now() / this.#periodMs) * this.#periodMs
    await delay(periodEnd + ageMs - Date.now())
  }

  /** Stops marking, and flushes everything. */
  async cease(): Promise<void> {
    this.#ceased = true
    await this.#burning
    this.#loopDelay.disable()
    for (const { tracker } of this.#witnessed) assert.deepEqual(await tracker.close(), { left: 0 })
    await until(
      'all that is pending is flushed',
      async () => {
        await drain(this.#database.pool)
        const { rows } = await this.#database.pool.query(
          'SELECT NOT EXISTS (SELECT FROM pending_usage) AS none',
        )
        return rows[0].none
      },
      { intervalMs: 200 },
    )
  }

  async assertExact(): Promise<void> {
    const { rows } = await this.#database.pool.query(
      'SELECT id, extract(epoch FROM last_used_at)::float8 * 1000 AS used_at FROM workspaces',
    )
    const usedAt = new Map<string, number | null>(rows.map(({ id, used_at }) => [id, used_at]))
    for (const id of this.#unused) assert.equal(usedAt.get(id), null)

    const sentWith = new Map(this.#witnessed.map(witnessed => [witnessed, byId(witnessed.sent)]))
    let marked = 0
    for (const id of this.#usedUntil.keys()) {
      const by = this.#witnessed.filter(({ lastMarks }) => lastMarks.has(id))
      if (by.length === 0) continue
      marked++
      const used = usedAt.get(id) ?? Number.NEGATIVE_INFINITY
      const earliest = Math.max(...by.map(witnessed => this.#earliest(witnessed, id)))
      const latest = Math.max(
        ...by.map(witnessed => this.#latest(witnessed, id, sentWith.get(witnessed)!.get(id) ?? [])),
      )
      assert.ok(used >= earliest, `${id} seems used ${earliest - used} ms before its last mark`)
      assert.ok(used <= latest, `${id} seems used ${used - latest} ms longer than it can have been`)
    }
    assert.ok(marked > USED * 0.8, `${marked} marked workspaces prove little`)
  }

  /** The earliest last_used_at that is right for the marks of this tracker. */
  #earliest({ lastMarks, forgotAt }: Witnessed, id: string): number {
    const at = lastMarks.get(id)!
    const noticedAt = forgotAt.find(forgot => forgot >= this.#lossExpectedFrom)
    return noticedAt !== undefined && at <= noticedAt ? Number.NEGATIVE_INFINITY : at
  }

  /** The latest one: a period after the mark, or after the end of the statement that the mark had to wait for. */
  #latest({ lastMarks, forgotAt }: Witnessed, id: string, sent: readonly SentStatement[]): number {
    const at = lastMarks.get(id)!
    // If the event loop was blocked, the tracker may have marked a workspace again because it was not sure.
    const blockedMs = this.#loopDelay.max / 1e6
    const latest = at + this.#periodMs + (blockedMs > 250 ? 250 + blockedMs : 0) + 1
    let storedAt = at
    for (const { sentAt, answeredAt, remainingMs } of sent) {
      if (answeredAt === undefined) continue
      const openUntil = sentAt + remainingMs
      if (answeredAt < at) {
        // The workspace was stored, so the mark needed no statement. (The tracker may assume a slightly earlier end.)
        const forgotten = forgotAt.some(forgot => forgot >= answeredAt && forgot <= at)
        if (at < openUntil - 50 && !forgotten) return latest
      } else {
        storedAt = answeredAt
        if (sentAt > at || answeredAt < openUntil - 50) break
      }
    }
    return latest + storedAt - at
  }

  async #mark({ tracker, lastMarks }: Witnessed): Promise<void> {
    const ids = [...this.#usedUntil.keys()]
    while (!this.#ceased) {
      for (let count = 0; count < 20; count++) {
        const id = ids[Math.floor(Math.random() * ids.length)]!
        const now = Date.now()
        if (now > this.#usedUntil.get(id)!) continue
        tracker.mark(id)
        lastMarks.set(id, now)
      }
      await delay(Math.random() * 10)
    }
  }

  async #flush(): Promise<void> {
    while (!this.#ceased) {
      // A flush whose connection is cut leaves its marks to the next flush.
      await flush(this.#database.pool, { batchSize: 1_000 }).catch(() => {})
      await delay(Math.random() * 200)
    }
  }
}

/** The statements that carried each id, in the order in which they were sent. */
function byId(sent: readonly SentStatement[]): Map<string, SentStatement[]> {
  const statements = new Map<string, SentStatement[]>()
  for (const statement of sent) {
    for (const id of statement.ids) {
      const others = statements.get(id)
      if (others) others.push(statement)
      else statements.set(id, [statement])
    }
  }
  return statements
}
