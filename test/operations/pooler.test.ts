import assert from 'node:assert/strict'
import { pendingStatus } from '../../src/activity/status.ts'
import { createPool } from '../../src/database/pool.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { atEnd } from '../support/at-end.ts'
import type { TestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { setPeriodLength } from '../support/period.ts'
import { PGBOUNCER_MISSING, startPgBouncer } from '../support/pgbouncer.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt } from '../support/seed.ts'

testOnBothVersions(
  'migrate, trackers, workers and reads work through PgBouncer in transaction mode, on five connections of the server',
  async (database, t) => {
    const pooled = await startPgBouncer(database.connectionString)
    if (pooled === null) return t.skip(PGBOUNCER_MISSING)
    const { pool } = database
    assert.equal((await migrate({ connectionString: pooled })).workspacesCreated, true)
    await setPeriodLength(pool, 0.1)
    const ids = await createWorkspaces(pool, 200)
    const log = collectLog()
    const worker = () =>
      startFlushWorker({ database: pooled, logger: log.logger, flushIntervalSeconds: 1, batchSize: 50 })
    await using one = await worker()
    await using other = await worker()
    const marking = createPool(pooled, { applicationName: 'ssh', max: 4 })
    atEnd(() => marking.end())
    const trackers = ['ssh', 'ide'].map(source => new UsageTracker(marking, { source, logger: log.logger }))
    const started = new Date()
    for (const id of ids) for (const tracker of trackers) tracker.mark(id)
    await Promise.all(trackers.map(tracker => tracker.close()))
    await until('all marks are flushed', async () =>
      (await lastUsedAt(pool, ids)).every(at => at !== null && at >= started),
    )
    assert.equal((await pendingStatus(marking)).refused, 0)
    assert.ok((await connectionsOf(database)) <= 5)
    await Promise.all([one.stop(), other.stop()])
    assert.deepEqual(
      log.lines.filter(({ level }) => level === 'warn' || level === 'error'),
      [],
    )
  },
)

testOnBothVersions(
  'PgBouncer refuses a search_path in the connection string; that of the role or the database works',
  async (database, t) => {
    const pooled = await startPgBouncer(database.connectionString)
    if (pooled === null) return t.skip(PGBOUNCER_MISSING)
    await database.pool.query('CREATE SCHEMA sales')
    await assert.rejects(migrate({ connectionString: `${pooled}?options=-csearch_path%3Dsales` }), {
      message: /unsupported startup parameter/,
    })
    await database.pool.query(`ALTER DATABASE "${database.name}" SET search_path = sales`)
    const fresh = await startPgBouncer(database.connectionString)
    assert.equal((await migrate({ connectionString: fresh! })).schema, 'sales')
  },
)

/** Connections of the server to the database, without those of the test itself. */
async function connectionsOf({ pool }: TestDatabase): Promise<number> {
  const { rows } = await pool.query(
    `SELECT count(*)::int AS connections FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'workspace-usage%' OR application_name = 'ssh'`,
  )
  return rows[0].connections
}
