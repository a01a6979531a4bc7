/*
 * The upgrade of a database in use, from the schema of the first release candidate of 0.1.0. Migrate first. Until all
 * workers are replaced, old and new ones flush side by side.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { downgradeToReleaseCandidate, flushAsReleaseCandidate } from '../support/release-candidate.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

testFromReleaseCandidate(
  'marks of an old schema are flushed by old and new workers while trackers of both go on, and none is lost',
  async database => {
    const { pool, connectionString } = database
    await setPeriodLength(pool, 0.1)
    const ids = await createWorkspaces(pool, 300)
    await storeClosedMarks(pool, ids.slice(0, 100), { source: 'before' })
    const oldWorker = await database.connect()
    const oldFlush = repeat(() => flushAsReleaseCandidate(oldWorker, { batchSize: 40 }))
    const usedByOld = new Map<string, Date>()
    const marker = repeat(async () => {
      const id = ids[Math.floor(Math.random() * ids.length)]!
      const usedAt = new Date()
      await markUsage(pool, id, { source: 'old service' })
      usedByOld.set(id, usedAt)
    })

    await migrate({ connectionString })
    await using worker = await startFlushWorker({
      database: connectionString,
      logger: collectLog().logger,
      flushIntervalSeconds: 1,
      batchSize: 40,
    })
    const started = new Date()
    const tracker = new UsageTracker(pool, { source: 'new service', logger: collectLog().logger })
    for (const id of ids) tracker.mark(id)
    await tracker.close()
    await until('all marks of the new service are flushed', async () =>
      (await lastUsedAt(pool, ids)).every(at => at !== null && at >= started),
    )
    await marker.stop()
    await oldFlush.stop()
    await worker.stop()

    await untilDrained(database)
    assert.equal((await usesBy(database, 'before')).size, 100)
    const flushed = await usesBy(database, 'old service')
    assert.ok(usedByOld.size > 0)
    for (const [id, usedAt] of usedByOld) assert.ok(flushed.get(id)! >= usedAt, id)
    assert.ok(oldFlush.done() > 0)
  },
)

testFromReleaseCandidate(
  'an old flush of migrated tables takes marks that are set aside, and other rows at the same place too, but loses no use',
  async database => {
    const { pool, connectionString } = database
    await migrate({ connectionString })
    const [known, other] = await createWorkspaces(pool, 2)
    await storeClosedMarks(pool, [crypto.randomUUID()])
    assert.equal((await flush(pool)).awaited, 1)
    // The only row of set_aside_usage and the only row of pending_usage have the same ctid now. The second one is open.
    await pool.query('TRUNCATE ONLY pending_usage')
    await markUsage(pool, known!)
    assert.deepEqual(await placesOfMarks(database), ['(0,1)', '(0,1)'])

    const old = await database.connect()
    assert.deepEqual(await flushAsReleaseCandidate(old), {
      flushed: 2,
      workspaces: 1,
      updated: 1,
      unknown: 1,
      held: -1,
    })
    const [usedAt, untouched] = await lastUsedAt(pool, [known!, other!])
    assert.ok(usedAt! > new Date(), 'the end of the open period')
    assert.equal(untouched, null)
  },
)

testFromReleaseCandidate(
  'an old worker fails while a workspace is refused, as it did before; new workers flush the rest, and it recovers',
  async database => {
    const { pool, connectionString } = database
    await migrate({ connectionString })
    const [good, refused] = await createWorkspaces(pool, 2)
    await pool.query(`ALTER TABLE workspaces ADD CONSTRAINT refuse CHECK (id <> '${refused}') NOT VALID`)
    const usedAt = await storeClosedMarks(pool, [good!, refused!])
    const old = await database.connect()
    await assert.rejects(flushAsReleaseCandidate(old), { code: '23514' })
    const { flushed, refused: setAside } = await flush(pool)
    assert.deepEqual([flushed, setAside], [1, 1])
    assert.deepEqual(await lastUsedAt(pool, [good!, refused!]), [usedAt, null])
    await assert.rejects(flushAsReleaseCandidate(old), { code: '23514' })

    await pool.query('ALTER TABLE workspaces DROP CONSTRAINT refuse')
    assert.equal((await flushAsReleaseCandidate(old)).flushed, 1)
    assert.deepEqual(await lastUsedAt(pool, [good!, refused!]), [usedAt, usedAt])
  },
)

testFromReleaseCandidate('a new worker refuses an old schema and names what is missing', async database => {
  const { pool, connectionString } = database
  const [id] = await createWorkspaces(pool, 1)
  await assert.rejects(startFlushWorker({ database: connectionString, logger: collectLog().logger }), {
    name: 'NotMigratedError',
    missing: /set_aside_usage/,
    message: /not migrated: .*"set_aside_usage".* Run `workspace-usage migrate`/,
  })
  await assert.rejects(flush(pool), { name: 'NotMigratedError' })
  // A new marker works before the migration.
  await markUsage(pool, id!)
  assert.equal(await pendingCount(pool), 1)
})

/** Defines a test with a database of the release candidate, on PostgreSQL 18 and on 15. */
function testFromReleaseCandidate(name: string, body: (database: TestDatabase) => Promise<void>): void {
  const run = async (database: TestDatabase) => {
    await downgradeToReleaseCandidate(database)
    await body(database)
  }
  test(name, async () => run(await createTestDatabase()))
  test(`on PostgreSQL 15, ${name}`, t => onPostgres15(t, run))
}

/** Does something again and again until `stop`, which throws what it threw. */
function repeat(work: () => Promise<unknown>): { stop(): Promise<void>; done(): number } {
  let going = true
  let done = 0
  const loop = (async () => {
    while (going) {
      await work()
      done++
    }
  })()
  loop.catch(() => {})
  return {
    done: () => done,
    async stop() {
      going = false
      await loop
    },
  }
}

async function untilDrained({ pool }: TestDatabase): Promise<void> {
  await until('nothing is pending', async () => {
    await drain(pool)
    return (await pendingCount(pool)) === 0
  })
}

/** When a source last used each workspace, as flushed. */
async function usesBy({ pool }: TestDatabase, source: string): Promise<Map<string, Date>> {
  // An old worker writes workspace_usage itself, and a new one its child.
  const { rows } = await pool.query(
    'SELECT workspace_id, max(last_used_at) AS last_used_at FROM workspace_usage WHERE source = $1 GROUP BY workspace_id',
    [source],
  )
  return new Map(rows.map(({ workspace_id, last_used_at }) => [workspace_id, last_used_at]))
}

async function placesOfMarks({ pool }: TestDatabase): Promise<string[]> {
  const { rows } = await pool.query('SELECT ctid::text AS place FROM pending_usage')
  return (rows as { place: string }[]).map(({ place }) => place)
}
