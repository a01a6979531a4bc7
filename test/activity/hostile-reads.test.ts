import assert from 'node:assert/strict'
import { test } from 'node:test'
import { privilegeStatements } from '../../src/access/duties.ts'
import { explainUsage } from '../../src/activity/explain.ts'
import { failingFlushes } from '../../src/activity/failing-flushes.ts'
import { usageHistory } from '../../src/activity/history.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { idleForecast } from '../../src/activity/idle-forecast.ts'
import type { IdleWorkspace } from '../../src/activity/idle-row.ts'
import { lastFlush } from '../../src/activity/last-flush.ts'
import { refusedWorkspaces } from '../../src/activity/refused.ts'
import { openPeriodRemaining, pendingStatus } from '../../src/activity/status.ts'
import type { Connection } from '../../src/database/connection.ts'
import { flush } from '../../src/flush/flush.ts'
import { usagePeriod } from '../../src/schema/period.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { connectHostile } from '../support/hostile-connection.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

for (const [version, server] of Object.entries({ 18: testServer, 15: testServer15 })) {
  test(`every read answers the same on a host's connection at its worst, on PostgreSQL ${version}`, async t => {
    const url = await server()
    if (url === null) return t.skip(POSTGRES_15_MISSING)
    const database = await createTestDatabase({ on: url })
    const ids = await fill(database)
    const expected = await answers(database.pool, ids)
    assert.ok(expected.explanations.some(({ sources }) => sources.length > 1))
    assert.equal(expected.refused.total, 1)
    assert.equal(expected.failing?.attempts, 1)
    for (const [name, connection] of connectHostile(database).each) {
      assert.deepEqual(await answers(connection, ids), expected, name)
      const remaining = await openPeriodRemaining(connection)
      assert.ok(remaining > 0 && remaining <= 30_000, String(remaining))
    }
  })
}

/** Workspaces of every kind: flushed, pending, never used, refused. */
async function fill({ pool }: TestDatabase): Promise<string[]> {
  const ids = await createWorkspaces(pool, 6)
  const [flushed, both, pending, , refused, old] = ids as [string, string, string, string, string, string]
  await pool.query('UPDATE workspaces SET last_used_at = $2 WHERE id = $1', [
    old,
    '2021-02-03 04:05:06.123456Z',
  ])
  await pool.query(`ALTER TABLE workspaces ADD CONSTRAINT never CHECK (id <> '${refused}') NOT VALID`)
  await storeClosedMarks(pool, [flushed, both, refused], { agoMs: 8 * 86_400_000, source: 'ssh' })
  await storeClosedMarks(pool, [both], { agoMs: 7 * 86_400_000, source: 'web' })
  await flush(pool)
  await storeClosedMarks(pool, [pending, both], { agoMs: 86_400_000, source: 'vscode' })
  await pool.query(`INSERT INTO pgboss.job (name, state, retry_count, started_on, output, policy)
    SELECT name, 'retry', 0, now(), '{"message": "no"}', policy FROM pgboss.queue WHERE name = 'workspace-usage-flush'`)
  return ids
}

async function answers(connection: Connection, ids: string[]) {
  const explanations = []
  for (const id of ids) {
    const { asOf, ...explanation } = await explainUsage(connection, id)
    assert.ok(Math.abs(asOf.getTime() - Date.now()) < 60_000)
    const { sources } = await usageHistory(connection, id, { days: 20 })
    explanations.push({ ...explanation, history: sources })
  }
  const idle: Omit<IdleWorkspace, 'idleSeconds' | 'leftSeconds'>[] = []
  for await (const { idleSeconds, leftSeconds, ...workspace } of idleWorkspaces(connection, {
    idleForSeconds: 60,
    pageSize: 2,
  })) {
    assert.equal(idleSeconds === null, workspace.lastUsedAt === null)
    assert.equal(leftSeconds === null, workspace.lastUsedAt === null)
    idle.push(workspace)
  }
  const { asOf, ...forecast } = await idleForecast(connection, { idleForSeconds: 60 })
  assert.ok(Math.abs(asOf.getTime() - Date.now()) < 60_000)
  const { lagSeconds, ...pending } = await pendingStatus(connection)
  assert.ok(lagSeconds > 86_000 && lagSeconds < 90_000, String(lagSeconds))
  return {
    explanations,
    idle,
    forecast,
    pending,
    last: await lastFlush(connection),
    failing: await failingFlushes(connection),
    refused: await refusedWorkspaces(connection),
    period: await usagePeriod(connection),
    grant: await privilegeStatements(connection, 'grant', {
      markers: ['pg_monitor'],
      workers: ['pg_monitor'],
      readers: ['pg_monitor'],
    }),
  }
}
