import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import pg from 'pg'
import { grantPrivileges } from '../../src/access/grant.ts'
import { InsufficientPrivilegeError } from '../../src/errors.ts'
import { migrate } from '../../src/schema/migrate.ts'
import type { FailureEvent, FlushEvent } from '../../src/worker/events.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createEmptyDatabase } from '../support/database.ts'
import { startWaitingJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { collectMetrics, pointsOf } from '../support/metrics.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

/* A grant is revoked while a worker runs: its hooks and its metrics tell, and all recover when it is granted again. */

test('a revoked grant is told by the hooks and the metrics, and its end too', async t => {
  await failAndRecover(await testServer(), t)
})

test('on PostgreSQL 15, a revoked grant is told by the hooks and the metrics, and its end too', async t => {
  const server = await testServer15()
  if (server === null) return t.skip(POSTGRES_15_MISSING)
  await failAndRecover(server, t)
})

async function failAndRecover(server: string, t: TestContext): Promise<void> {
  const role = await createLoginRole(server, 'worker')
  const database = await createEmptyDatabase({ on: server })
  const { pool } = database
  await migrate({ connectionString: database.connectionString })
  await grantPrivileges(pool, { workers: [role.name] })
  const metrics = collectMetrics()
  t.after(() => metrics.unregister())
  const failures: FailureEvent[] = []
  const flushes: FlushEvent[] = []
  await using _worker = await startFlushWorker({
    database: role.connectionString(database),
    logger: collectLog().logger,
    flushIntervalSeconds: 1,
    onFailure: event => failures.push(event),
    onFlush: event => flushes.push(event),
  })
  await until('a flush', () => flushes.length > 0)

  await pool.query(`REVOKE UPDATE ON workspaces FROM ${pg.escapeIdentifier(role.name)}`)
  const ids = await createWorkspaces(pool, 2)
  await storeClosedMarks(pool, ids)
  await until('two failures are told', async () => {
    await startWaitingJobs(pool)
    return failures.length >= 2
  })
  assert.ok(failures[0]!.error instanceof InsufficientPrivilegeError)
  assert.deepEqual(
    failures.slice(0, 2).map(({ kind, consecutiveErrors }) => [kind, consecutiveErrors]),
    [
      ['flush', 1],
      ['flush', 2],
    ],
  )
  const counted = pointsOf((await metrics.all()).get('workspace_usage.flush.failures'))
  assert.deepEqual(
    counted.map(([attributes]) => attributes),
    [{ 'error.type': '42501' }],
  )
  assert.ok((counted[0]![1] as number) >= 2)

  await grantPrivileges(pool, { workers: [role.name] })
  const recovered = await until('its end is told', async () => {
    await startWaitingJobs(pool)
    return flushes.find(({ recovered }) => recovered !== null)
  })
  assert.deepEqual(recovered.recovered, { consecutiveErrors: failures.length, since: failures[0]!.since })
  await until('no mark was lost', async () => (await pendingCount(pool)) === 0)
  assert.equal(
    flushes.reduce((sum, { result }) => sum + result.updated, 0),
    2,
  )
}
