/*
 * Runs the built package with the Node that runs this: `npm run build && node test/package/smoke.js`. It is JavaScript,
 * because Node 22.12 runs no TypeScript. DATABASE_URL names an empty database, in which it migrates, marks and flushes.
 * It needs no development dependency.
 */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import pg from 'pg'
import { flush, markUsage, migrate, UsageTracker } from 'workspace-usage'

const [MARKED, TRACKED] = ['ad0b51e0-4a1f-4f5c-9d4e-111111111111', 'ad0b51e0-4a1f-4f5c-9d4e-222222222222']
const connectionString = process.env.DATABASE_URL
assert.ok(connectionString, 'DATABASE_URL must name an empty database')

const { applied } = await migrate({ connectionString })
assert.notEqual(applied.length, 0, 'the database is not empty')
console.log(`Node ${process.version} migrated`)

const pool = new pg.Pool({ connectionString, max: 3 })
await pool.query('INSERT INTO workspaces (id) SELECT unnest($1::uuid[])', [[MARKED, TRACKED]])
await markUsage(pool, [MARKED])
await closePeriods()
assert.equal((await flush(pool)).updated, 1)
console.log('a mark was flushed')

const tracker = new UsageTracker(pool, { source: 'ssh' })
tracker.mark(TRACKED)
assert.equal((await tracker.close()).left, 0)
await closePeriods()
await workerFlushes()
const { rows } = await pool.query(
  'SELECT count(*)::int AS used FROM workspaces WHERE last_used_at IS NOT NULL',
)
assert.deepEqual(rows, [{ used: 2 }])
console.log('a worker flushed the mark of a tracker, and stopped at a signal')
await pool.end()

/** Lets what is marked so far be due at once. */
async function closePeriods() {
  await pool.query(`UPDATE pending_usage SET period_end = now() - interval '1 second'`)
}

/** Starts the command, waits until its log says that a flush has updated something, and stops it. */
async function workerFlushes() {
  const main = path.join(import.meta.dirname, '../../dist/src/cli/main.js')
  const worker = spawn(process.execPath, [main, 'worker', '--flush-interval', '1'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const deadline = setTimeout(() => worker.kill('SIGKILL'), 60_000)
  let [started, flushed] = [false, false]
  for await (const line of createInterface(worker.stdout)) {
    started ||= line.includes('"worker started"')
    flushed ||= line.includes('"updated workspaces last_used_at"')
    // Once, because a second signal ends a worker at once.
    if (started && flushed && !worker.killed) worker.kill('SIGTERM')
  }
  if (worker.exitCode === null && worker.signalCode === null) await once(worker, 'exit')
  clearTimeout(deadline)
  assert.deepEqual([worker.exitCode, worker.signalCode], [0, null])
}
