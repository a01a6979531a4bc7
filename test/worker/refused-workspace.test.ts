import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { createTestDatabase } from '../support/database.ts'
import { startWorker } from '../support/flush-worker.ts'
import { startWaitingJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, storeClosedMarks } from '../support/seed.ts'

const REFUSED = 'the database refuses the update of a workspace; its marks are set aside and tried again'
const UNKNOWN =
  'nearly all marks are of workspaces that do not exist: is "workspaces" the right table, and do markers pass its ids?'

test('a worker flushes around a workspace that is refused at COMMIT, names it once, and its job says so', async () => {
  const database = await createTestDatabase()
  const { pool } = database
  const ids = await createWorkspaces(pool, 8)
  await pool.query(`
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
    CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON workspaces DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW WHEN (old.id = '${ids[5]}') EXECUTE FUNCTION refuse()`)
  const periodEnd = await storeClosedMarks(pool, ids)
  const log = collectLog()
  await using _worker = await startWorker(database, log, { flushIntervalSeconds: 1 })
  await until('the others are flushed', async () => {
    const { rows } = await pool.query('SELECT FROM workspaces WHERE last_used_at IS NOT NULL')
    return rows.length === 7
  })
  await until('another flush has run', async () => {
    await startWaitingJobs(pool)
    return log.lines.filter(({ message }) => message === 'nothing to flush').length > 0
  })
  const named = log.lines.filter(({ message }) => message === REFUSED)
  assert.deepEqual(
    named.map(({ level, fields }) => [level, fields.workspaceId, fields.sqlState, fields.reason]),
    [['warn', ids[5], 'P0001', 'not this one']],
  )
  assert.equal(log.lines.filter(({ level }) => level === 'error').length, 0)
  const { rows } = await pool.query(
    `SELECT output FROM pgboss.job WHERE state = 'completed' AND (output ->> 'refused')::int > 0`,
  )
  assert.equal(rows[0].output.refusals[0].workspaceId, ids[5])
  assert.deepEqual(await lastUsedAt(pool, [ids[0]!, ids[5]!]), [periodEnd, null])
})

test('a worker warns if nearly all marks are of workspaces that do not exist', async () => {
  const database = await createTestDatabase()
  await storeClosedMarks(database.pool, [randomUUID(), randomUUID(), randomUUID()])
  const log = collectLog()
  await using _worker = await startWorker(database, log, {})
  await until('the worker has warned', async () => log.lines.some(({ message }) => message === UNKNOWN))
  const warning = log.lines.find(({ message }) => message === UNKNOWN)
  assert.deepEqual([warning!.level, warning!.fields.awaited], ['warn', 3])
})
