import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { type Program, startProgram } from '../support/process.ts'
import { createWorkspaces } from '../support/seed.ts'

/*
 * A service that marks stands still over the end of periods. Its last marks repeat ids that it had stored before. They
 * must count for the period in which they were made, or for a later one.
 */

const PERIOD_MS = 500
const WORKSPACES = 20
const STILL_MS = 3 * PERIOD_MS

test('a service whose event loop is blocked over the end of periods loses no mark, and no mark counts earlier than it was made', async t => {
  await isBlocked(t, await createTestDatabase())
})

test('a service whose event loop is blocked over the end of periods loses no mark on PostgreSQL 15', async t => {
  await onPostgres15(t, database => isBlocked(t, database))
})

async function isBlocked(t: TestContext, database: TestDatabase): Promise<void> {
  const { service, ids } = await startService(database, { BLOCK_MS: String(STILL_MS) })
  await assertLastMarksCount(t, database, service, ids)
}

test('a service process that is stopped and continued after the end of periods loses no mark, and no mark counts earlier than it was made', async t => {
  const database = await createTestDatabase()
  const { service, ids } = await startService(database, { BLOCK_MS: '0' })
  service.kill('SIGSTOP')
  const stoppedAt = performance.now()
  await until('periods have ended', () => performance.now() - stoppedAt > STILL_MS)
  service.kill('SIGCONT')
  await assertLastMarksCount(t, database, service, ids)
})

test('a service process that is stopped while it stores its marks loses none', async t => {
  const database = await createTestDatabase()
  const { service, ids } = await startService(database, { BLOCK_MS: '0' })
  const locker = await database.connect()
  // The statement waits in the server, and is answered while nobody reads the answer.
  await locker.query('BEGIN; LOCK TABLE pending_usage IN EXCLUSIVE MODE')
  await until('a statement of the service waits', async () => {
    const { rowCount } = await database.pool.query(
      `SELECT FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO pending_usage%'
        AND pid <> pg_backend_pid()`,
    )
    return (rowCount ?? 0) > 0
  })
  service.kill('SIGSTOP')
  const stoppedAt = performance.now()
  await until('periods have ended', () => performance.now() - stoppedAt > STILL_MS)
  await locker.query('COMMIT')
  service.kill('SIGCONT')
  await assertLastMarksCount(t, database, service, ids)
})

async function startService(
  { pool, connectionString }: TestDatabase,
  env: { BLOCK_MS: string },
): Promise<{ service: Program; ids: string[] }> {
  await setPeriodLength(pool, PERIOD_MS / 1_000)
  const ids = await createWorkspaces(pool, WORKSPACES)
  const service = startProgram('test/programs/marking-service.ts', ids, {
    env: { DATABASE_URL: connectionString, ...env },
  })
  await service.line(/it marks/, { timeoutMs: 30_000 })
  await until('its first marks are stored', async () => {
    const { rows } = await pool.query('SELECT count(DISTINCT workspace_id)::int AS ids FROM pending_usage')
    return rows[0].ids === WORKSPACES
  })
  return { service, ids }
}

async function assertLastMarksCount(
  t: TestContext,
  { pool }: TestDatabase,
  service: Program,
  ids: string[],
): Promise<void> {
  const since = performance.now()
  service.kill('SIGUSR2')
  const { lastMark, marked } = JSON.parse(await service.line(/lastMark/, { timeoutMs: 30_000 }))
  const usedAt = async (): Promise<number[]> => {
    await drain(pool)
    const { rows } = await pool.query(
      'SELECT extract(epoch FROM last_used_at)::float8 * 1000 AS at FROM workspaces',
    )
    return rows.map(({ at }) => at)
  }
  const times = await until('the last marks count', usedAt, {
    accept: times => times.every(at => at > lastMark),
    timeoutMs: 15_000,
  })
  const seconds = ((performance.now() - since) / 1_000).toFixed(1)
  assert.equal(times.length, ids.length)
  t.diagnostic(
    `marked ${marked} times, survived ${ids.length} of ${ids.length} last marks, lost 0, in ${seconds} s`,
  )
  const storedLateMs = 10_000
  for (const at of times) assert.ok(at <= lastMark + PERIOD_MS + storedLateMs, `${at - lastMark} ms late`)
  service.kill('SIGTERM')
  assert.deepEqual(await service.untilExit({ timeoutMs: 20_000 }), { code: 0, signal: null })
  assert.match(service.stdout, /"left":0,"dropped":0/)
}
