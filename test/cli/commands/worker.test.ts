import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { FLUSH_QUEUE } from '../../../src/worker/queue.ts'
import { commandLineUrl, runCommand, startCommand } from '../../support/command-line.ts'
import { createTestDatabase } from '../../support/database.ts'
import { closeFlushGate } from '../../support/flush-gate.ts'
import { createWorkspaces, storeClosedMarks } from '../../support/seed.ts'

const database = await createTestDatabase()
const { pool, connectionString } = database
const env = {
  DATABASE_URL: await commandLineUrl(connectionString),
  WORKSPACE_USAGE_FLUSH_INTERVAL: '1',
  WORKSPACE_USAGE_LOG_LEVEL: 'debug',
}

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
  await pool.query('DELETE FROM pgboss.job WHERE name = $1', [FLUSH_QUEUE])
})

test('worker flushes, logs JSON lines, and ends with 0 on SIGTERM; status shows its last flush', async () => {
  const ids = await createWorkspaces(pool, 2)
  await storeClosedMarks(pool, ids)
  const worker = startCommand(['worker'], { env })
  await worker.prints(/nothing to flush/, { timeoutMs: 30_000 })
  worker.emit('SIGTERM', 'SIGTERM')
  const { code, stdout, stderr } = await worker.ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  const log = stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line))
  assert.equal(log[0].flushIntervalSeconds, 1)
  assert.equal(log.find(({ msg }) => msg === 'updated workspaces last_used_at').updated, 2)
  assert.equal(log.at(-1).msg, 'worker stopped')

  const { DATABASE_URL } = env
  const status = JSON.parse((await runCommand(['status', '--json'], { env: { DATABASE_URL } })).stdout)
  const { completedAt, ...counts } = status.lastFlush
  assert.ok(Date.parse(completedAt))
  assert.deepEqual(counts, {
    flushed: 0,
    workspaces: 0,
    updated: 0,
    unknown: 0,
    held: 0,
    awaited: 0,
    refused: 0,
  })
  const text = (await runCommand(['status'], { env: { DATABASE_URL } })).stdout
  assert.match(
    text,
    /^last flush {2}\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ: 0 marks flushed, 0 workspaces updated, 0 unknown, 0 held$/m,
  )
})

test('worker that gets two signals does not wait for its current flush', async () => {
  await storeClosedMarks(pool, await createWorkspaces(pool, 1))
  const gate = await closeFlushGate(database)
  const worker = startCommand(['worker'], { env })
  await gate.untilReached()
  worker.emit('SIGINT', 'SIGINT')
  await worker.prints(/stopping/)
  worker.emit('SIGTERM', 'SIGTERM')
  assert.equal((await worker.ended).code, 143)
  assert.equal(worker.listenerCount('SIGINT') + worker.listenerCount('SIGTERM'), 0)
  await gate.open()
})

test('worker whose log is closed by its reader says so, finishes its current flush and ends with 1', async () => {
  const worker = startCommand(['worker'], { env })
  await worker.prints(/worker started/)
  worker.stdout.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }))
  const { code, stderr } = await worker.ended
  assert.equal(stderr, 'error: nobody reads standard output any more, and it is the log\n')
  assert.equal(code, 1)
})
