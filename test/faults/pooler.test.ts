/** What works through a pooler without a fault: test/operations/pooler.test.ts. */

import assert from 'node:assert/strict'
import { suite, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { grantPrivileges } from '../../src/access/grant.ts'
import { explainUsage } from '../../src/activity/explain.ts'
import { usageHealth } from '../../src/activity/health.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { usageSources } from '../../src/activity/sources.ts'
import { pendingStatus } from '../../src/activity/status.ts'
import { diagnose } from '../../src/doctor/diagnose.ts'
import { drain } from '../../src/flush/drain.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { collectLog } from '../support/log-lines.ts'
import { setPeriodLength } from '../support/period.ts'
import { PGBOUNCER_MISSING, type Pooler, startPooler } from '../support/pgbouncer.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole, type LoginRole } from '../support/roles.ts'
import { createWorkspaces, pendingCount } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

const PERIOD_MS = 500
const RECOVERY_MS = 20_000

const TRANSACTION_MODE = 'pool_mode = transaction'

interface Fault {
  settings?: readonly string[]
  strike(pooler: Pooler, database: TestDatabase): Promise<unknown>
}

const FAULTS: Record<string, Fault> = {
  'PgBouncer is killed twice, and comes back': {
    async strike(pooler) {
      for (const absentMs of [0, 1_000]) {
        await pooler.kill('SIGKILL')
        await delay(absentMs)
        await pooler.start()
        await delay(500)
      }
    },
  },
  'PgBouncer is stopped in haste, and comes back': {
    async strike(pooler) {
      await pooler.kill('SIGTERM')
      await pooler.start()
    },
  },
  'PgBouncer pauses for two seconds': {
    async strike(pooler) {
      await pooler.command('PAUSE')
      await delay(2_000)
      await pooler.command('RESUME')
    },
  },
  'the connections behind PgBouncer are killed again and again': {
    async strike(_pooler, { pool }) {
      for (let round = 0; round < 10; round++) {
        await pool.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'pooled%'`,
        )
        await delay(150)
      }
    },
  },
  'somebody takes all connections of PgBouncer for three seconds': {
    settings: ['default_pool_size = 2', 'query_wait_timeout = 1'],
    async strike(pooler) {
      const hogs = [1, 2].map(() => new pg.Client({ connectionString: pooler.connectionString }))
      for (const hog of hogs) {
        hog.on('error', () => {})
        // Others wait in the same queue, and time out.
        await until('a connection is taken', () => hog.connect().then(() => hog.query('BEGIN')))
      }
      await delay(3_000)
      await Promise.all(hogs.map(hog => hog.end()))
    },
  },
  'PgBouncer discards the session after each transaction': {
    settings: ['server_reset_query = DISCARD ALL', 'server_reset_query_always = 1'],
    strike: () => delay(1_000),
  },
}

// Mostly they wait, so several run at once.
suite('a pooler', { concurrency: 4 }, () => {
  for (const version of [18, 15]) {
    const where = version === 15 ? 'on PostgreSQL 15, ' : ''
    for (const [what, fault] of Object.entries(FAULTS)) {
      test(`${where}no mark that was acknowledged is lost although ${what}`, async t => {
        const server = version === 15 ? await testServer15() : await testServer()
        if (server === null) return t.skip(POSTGRES_15_MISSING)
        const marker = await createLoginRole(server, 'pooled marker')
        const database = await createTestDatabase(version === 15 ? { on: server } : {})
        await grantPrivileges(database.pool, { markers: [marker.name] })
        await markUnder(fault, database, marker, t)
      })
    }
  }
})

async function markUnder(
  { settings = [], strike }: Fault,
  database: TestDatabase,
  marker: LoginRole,
  t: TestContext,
): Promise<void> {
  const { pool } = database
  const markerUrl = marker.connectionString(database)
  const pooler = await startPooler(database.connectionString, [TRANSACTION_MODE, ...settings], [markerUrl])
  if (pooler === null) return t.skip(PGBOUNCER_MISSING)
  await setPeriodLength(pool, PERIOD_MS / 1_000)
  const log = collectLog()
  await using worker = await startFlushWorker({
    database: pooler.connectionString,
    logger: log.logger,
    flushIntervalSeconds: 1,
  })
  // A flush by hand may have left it nothing.
  const flushes = () => log.lines.filter(({ message }) => /^(nothing to flush|updated)/.test(message)).length
  const load = new Load(await createWorkspaces(pool, 200))
  await using marks = startMarking(load, pooler, markerUrl)
  await until('all mark, and the worker flushes', () => load.allMark() && flushes() > 0)

  await strike(pooler, database)
  const struck = performance.now()
  const before = flushes()
  load.forgetWhoMarked()
  await until('all mark again, and the worker flushes', () => load.allMark() && flushes() > before, {
    timeoutMs: RECOVERY_MS,
  })
  const recoveryMs = Math.round(performance.now() - struck)
  await readThrough(pooler, database)
  await marks.stop()
  await until('nothing is pending', async () => (await pendingCount(pool)) === 0)
  await worker.stop()
  const lost = await load.lost(pool)
  t.diagnostic(
    `marked ${load.acknowledged} times, ${load.failed} failed; lost ${lost.length}; recovered in ${recoveryMs} ms`,
  )
  assert.deepEqual(lost, [])
}

/** Marks in all ways there are, through the pooler. */
function startMarking(
  load: Load,
  pooler: Pooler,
  markerUrl: string,
): AsyncDisposable & { stop(): Promise<void> } {
  const ours = heardPool({
    connectionString: pooler.connectionString,
    application_name: 'pooled',
    max: 3,
    connectionTimeoutMillis: 2_000,
  })
  const theirs = heardPool({
    connectionString: pooler.through(markerUrl),
    application_name: 'pooled',
    max: 2,
  })
  atEnd(() => Promise.all([ours.end(), theirs.end()]))
  const tracker = new UsageTracker(ours, { source: 'tracker', logger: collectLog().logger })
  const marking = Promise.all([
    load.mark('tracker', async id => {
      tracker.mark(id)
      await tracker.drain()
    }),
    load.mark('markUsage', id => markUsage(ours, id, { source: 'markUsage' })),
    load.mark('SQL', id =>
      theirs.query('INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING', [id]),
    ),
    // A flush by hand is one more that comes through the pooler.
    load.repeat(() => drain(ours), 300),
  ])
  const stop = async () => {
    load.stop()
    await marking
    assert.deepEqual(await tracker.close(), { left: 0 })
  }
  return { stop, [Symbol.asyncDispose]: stop }
}

/** Reads give through the pooler what they give without it. */
async function readThrough(pooler: Pooler, { pool }: TestDatabase): Promise<void> {
  const pooled = heardPool({ connectionString: pooler.connectionString, max: 2 })
  try {
    const [unused] = await createWorkspaces(pool, 1)
    const { exists, lastUsedAt } = await explainUsage(pooled, unused!)
    assert.deepEqual({ exists, lastUsedAt }, { exists: true, lastUsedAt: null })
    const idle: string[] = []
    for await (const { workspaceId } of idleWorkspaces(pooled, { idleForSeconds: 3_600, pageSize: 1 })) {
      idle.push(workspaceId)
    }
    assert.ok(idle.includes(unused!) && new Set(idle).size === idle.length)
    assert.deepEqual((await usageSources(pooled)).map(({ source }) => source).sort(), [
      'markUsage',
      'pooled',
      'tracker',
    ])
    assert.equal((await pendingStatus(pooled)).refused, 0)
    const { problems } = await usageHealth(pooled)
    assert.deepEqual(
      problems.filter(({ code }) => code === 'unavailable' || code === 'no-worker'),
      [],
    )
    const { findings } = await diagnose(pooled)
    assert.deepEqual(
      findings.filter(({ severity }) => severity === 'critical'),
      [],
    )
  } finally {
    await pooled.end()
  }
}

/** Marks random workspaces in several ways, and remembers what was acknowledged. */
class Load {
  acknowledged = 0
  failed = 0
  readonly #ids: readonly string[]
  /** When the last mark of each workspace began that was acknowledged. */
  readonly #lastMarks = new Map<string, number>()
  readonly #ways = new Set<string>()
  readonly #marked = new Set<string>()
  #stopped = false

  constructor(ids: readonly string[]) {
    this.#ids = ids
  }

  async mark(way: string, mark: (id: string) => Promise<unknown>): Promise<void> {
    this.#ways.add(way)
    await this.repeat(async () => {
      const id = this.#ids[Math.floor(Math.random() * this.#ids.length)]!
      const began = Date.now()
      await mark(id)
      this.acknowledged++
      this.#marked.add(way)
      this.#lastMarks.set(id, Math.max(began, this.#lastMarks.get(id) ?? 0))
    })
  }

  async repeat(action: () => Promise<unknown>, pauseMs = 5): Promise<void> {
    while (!this.#stopped) {
      await action().catch(() => {
        this.failed++
      })
      await delay(pauseMs)
    }
  }

  stop(): void {
    this.#stopped = true
  }

  /** Whether each way has succeeded since the last call of `forgetWhoMarked`. */
  allMark(): boolean {
    return this.#marked.size === this.#ways.size
  }

  forgetWhoMarked(): void {
    this.#marked.clear()
  }

  /** Workspaces whose last use is earlier than their last mark. */
  async lost(pool: pg.Pool): Promise<string[]> {
    const { rows } = await pool.query('SELECT id, last_used_at FROM workspaces')
    const used = new Map<string, Date | null>(rows.map(({ id, last_used_at }) => [id, last_used_at]))
    return [...this.#lastMarks].flatMap(([id, at]) => (Number(used.get(id) ?? 0) < at ? [id] : []))
  }
}
