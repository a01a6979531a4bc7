import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { markUsage } from '../../../src/mark/mark.ts'
import { commandLineUrl, runCommand } from '../../support/command-line.ts'
import { createTestDatabase } from '../../support/database.ts'
import { CENTURY, setPeriodLength } from '../../support/period.ts'
import { until } from '../../support/poll.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../../support/seed.ts'

const { pool, connectionString } = await createTestDatabase()
const env = { DATABASE_URL: await commandLineUrl(connectionString) }

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
  // A period ends only in the test that sets a shorter one.
  await setPeriodLength(pool, CENTURY)
})

test('flush drains closed periods batch by batch', async () => {
  const ids = await createWorkspaces(pool, 5)
  const periodEnd = await storeClosedMarks(pool, [...ids, randomUUID()])
  const { code, stdout } = await runCommand(['flush', '--batch-size', '4', '--unknown-after', '0'], { env })
  assert.equal(
    stdout.replace(/\d+ ms/, '… ms'),
    '6 marks flushed, 5 workspaces updated, 1 unknown, 0 held (2 flushes, … ms)\n',
  )
  assert.equal(code, 0)
  assert.deepEqual(await lastUsedAt(pool, ids), Array(5).fill(periodEnd))
  assert.equal(await pendingCount(pool), 0)
})

test('flush --wait waits for the open period to close', async () => {
  const ids = await createWorkspaces(pool, 1)
  await setPeriodLength(pool, 2)
  await until('a period has just begun', async () => {
    const { rows } = await pool.query(
      `SELECT usage_period_end() - statement_timestamp() > interval '1.9 s' AS begun`,
    )
    return rows[0].begun
  })
  await markUsage(pool, ids)

  const { code, stdout } = await runCommand(['flush', '--wait', '--json'], { env })

  const { durationMs, ...counts } = JSON.parse(stdout)
  assert.deepEqual(counts, {
    ...{ flushes: 1, flushed: 1, workspaces: 1, updated: 1, unknown: 0, held: 0, awaited: 0, refused: 0 },
    ...{ bySource: { unknown: 1 }, refusals: [], emptied: false, reset: null },
  })
  assert.equal(typeof durationMs, 'number')
  assert.equal(code, 0)
})

test('flush reads its options from variables, and treats an empty one or "false" as not set', async () => {
  const ids = await createWorkspaces(pool, 3)
  await storeClosedMarks(pool, ids)
  const { code, stdout } = await runCommand(['flush'], {
    env: {
      ...env,
      WORKSPACE_USAGE_BATCH_SIZE: '2',
      WORKSPACE_USAGE_SOURCES: 'no',
      WORKSPACE_USAGE_WAIT: 'false',
      WORKSPACE_USAGE_JSON: '',
    },
  })
  assert.match(stdout, /^3 marks flushed, .* \(2 flushes, /)
  assert.equal(code, 0)
  assert.equal((await pool.query('SELECT FROM workspace_usage')).rowCount, 0)
})

test('flush shows its progress on a terminal, on standard error only', async () => {
  await setPeriodLength(pool, 0.5)
  await storeClosedMarks(pool, await createWorkspaces(pool, 1))
  const { stdout, stderr } = await runCommand(['flush', '--wait'], { env, terminal: true })
  assert.match(stdout, /^1 mark flushed, 1 workspace updated, 0 unknown, 0 held \(1 flush, \d+ ms\)\n$/)
  assert.match(stderr, /the open period closes in \d+\.\d s\n/)
  assert.match(stderr, /flushing marks .* 1\/1/)
})

test('flush names a refused workspace, and flushes it when it is called after the repair', async () => {
  const ids = await createWorkspaces(pool, 3)
  await pool.query(`ALTER TABLE workspaces ADD CONSTRAINT good CHECK (id <> '${ids[1]}') NOT VALID`)
  const periodEnd = await storeClosedMarks(pool, ids)
  const refused = await runCommand(['flush'], { env })
  assert.match(refused.stdout, /^2 marks flushed, 2 workspaces updated, 0 unknown, 0 held, 1 refused \(/)
  assert.match(refused.stderr, new RegExp(`^refused: workspace ${ids[1]}: .* \\(SQLSTATE 23514\\)`))
  assert.equal(refused.code, 0)
  await pool.query('ALTER TABLE workspaces DROP CONSTRAINT good')
  const repaired = await runCommand(['flush'], { env })
  assert.match(repaired.stdout, /^1 mark flushed, 1 workspace updated/)
  assert.deepEqual(await lastUsedAt(pool, ids), Array(3).fill(periodEnd))
})
