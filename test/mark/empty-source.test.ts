/* Only SQL of somebody else stores an empty source. It is one like any other then. */

import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { usageSources } from '../../src/activity/sources.ts'
import { flush } from '../../src/flush/flush.ts'
import { commandLineUrl, runCommand } from '../support/command-line.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, lastUsedAt, pendingCount } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'
import { metricValue, readMetrics, startWorkerWithPort, untilMetric } from '../support/worker-port.ts'

const database = await createTestDatabase()
const { pool, connectionString } = database
const env = { DATABASE_URL: await commandLineUrl(connectionString) }

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces, source_usage, refused_usage CASCADE')
})

const mark = (id: string) =>
  pool.query(`INSERT INTO pending_usage (workspace_id, source) VALUES ($1, '') ON CONFLICT DO NOTHING`, [id])

const closePeriods = () => pool.query(`UPDATE pending_usage SET period_end = now() - interval '1 s'`)

test('an empty source is seen in the views, pending and flushed, and is told by explain, sources and the flush', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  await mark(id)
  const seen = async () => {
    const { rows } = await pool.query(
      `SELECT a.source AS last, s.source, s.pending, (SELECT d.source FROM workspace_usage_daily d LIMIT 1) AS daily
      FROM workspace_activity a JOIN workspace_activity_by_source s USING (workspace_id)`,
    )
    return rows
  }
  assert.deepEqual(await seen(), [{ last: '', source: '', pending: true, daily: '' }])
  await closePeriods()
  assert.deepEqual((await flush(pool)).bySource, { '': 1 })
  assert.deepEqual(await seen(), [{ last: '', source: '', pending: false, daily: '' }])
  assert.equal((await usageSources(pool))[0]?.source, '')

  const explained = await runCommand(['explain', id], { env })
  assert.equal(explained.code, 0)
  assert.match(explained.stdout, /\| '' +\| \d{4}-/)
  const { sources } = JSON.parse((await runCommand(['explain', id, '--json'], { env })).stdout)
  assert.equal(sources[0].source, '')
  assert.match((await runCommand(['sources'], { env })).stdout, /│ '' +│ yes/)
})

test('an empty source can be ignored, counted again and retired', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  await mark(id)
  const run = async (...words: string[]) => (await runCommand(['sources', ...words], { env })).stdout
  const source = async () =>
    (await pool.query('SELECT source FROM workspace_activity WHERE workspace_id = $1', [id])).rows[0].source
  assert.equal(await run('ignore', ''), "'' does not count any more\n")
  assert.equal(await source(), null)
  await closePeriods()
  await flush(pool)
  assert.deepEqual(await lastUsedAt(pool, [id]), [null])
  assert.match(await run('count', ''), /^'' counts again/)
  await flush(pool)
  assert.notDeepEqual(await lastUsedAt(pool, [id]), [null])
  assert.equal(await source(), '')
  assert.equal(await run('--retire', ''), "retired ''\n")
})

test('marks of an empty source are set aside as held, awaited and refused, and are flushed later', async () => {
  const [held, refused] = (await createWorkspaces(pool, 2)) as [string, string]
  const awaited = crypto.randomUUID()
  for (const id of [held, refused, awaited]) await mark(id)
  await closePeriods()
  await pool.query(`ALTER TABLE workspaces ADD CONSTRAINT refuse CHECK (id <> '${refused}') NOT VALID`)
  await using holder = await openTransaction(database)
  await holder.client.query('SELECT FROM workspaces WHERE id = $1 FOR UPDATE', [held])
  const first = await flush(pool)
  assert.deepEqual([first.flushed, first.held, first.awaited, first.refused], [0, 1, 1, 1])

  await holder.client.query('ROLLBACK')
  await pool.query(`ALTER TABLE workspaces DROP CONSTRAINT refuse; INSERT INTO workspaces VALUES ('${awaited}');
    UPDATE refused_usage SET next_attempt_at = now()`)
  const second = await flush(pool)
  assert.deepEqual([second.flushed, second.bySource], [3, { '': 3 }])
  assert.equal(await pendingCount(pool), 0)
})

test('/metrics of a worker has the marks of an empty source', async t => {
  for (const id of await createWorkspaces(pool, 2)) await mark(id)
  await closePeriods()
  const { url, stop } = await startWorkerWithPort(database)
  t.after(stop)
  await untilMetric(url, 'workspace_usage_flush_workspaces_total', {}, value => value === 2)
  assert.equal(metricValue(await readMetrics(url), 'workspace_usage_flush_marks_total', { source: '' }), 2)
})
