import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { TestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { startWorkerProcess } from '../support/worker-process.ts'
import { Random } from './history/random.ts'
import { KeptMarks } from './kept-marks.ts'

/** So many workers run at a time. */
const WORKERS = 2

/** Some are killed so long after their start at most, and some so long after they said that they have started. */
const LONGEST_WAIT_MS = 1_500

/** How late the first flush after the last kill may be. A job of a killed worker expires only after 30 seconds. */
const RECOVERY_MS = 20_000

/** Kills worker processes at random moments, one after the other, while marks are made. Then one worker is left alone. */
export async function killWorkers(t: TestContext, database: TestDatabase, kills: number): Promise<void> {
  const seed = Math.floor(Math.random() * 2 ** 32)
  t.diagnostic(`seed ${seed}`)
  const marks = await KeptMarks.start(database, seed)
  const flushed = { before: 0 }
  const lane = async (number: number) => {
    const random = new Random(seed + number)
    for (let kill = number; kill < kills; kill += WORKERS) {
      const worker = startWorkerProcess(database)
      if (random.next() < 0.6) await worker.line(/worker started/, { timeoutMs: 60_000 })
      await delay(random.integer(50, LONGEST_WAIT_MS))
      worker.kill('SIGKILL')
      assert.deepEqual(await worker.exited, { code: null, signal: 'SIGKILL' }, worker.stdout + worker.stderr)
      flushed.before += worker.lines(/updated workspaces last_used_at/).length
    }
  }
  await Promise.all(Array.from({ length: WORKERS }, (_, number) => lane(number)))
  t.diagnostic(`${kills} workers were killed; they had reported ${flushed.before} flushes`)
  assert.ok(flushed.before > 0, 'the killed workers flushed')
  await until('the killed workers have no connection', async () => (await connections(database)) === 0)

  const since = performance.now()
  const worker = startWorkerProcess(database)
  await worker.line(/updated workspaces last_used_at/, { timeoutMs: RECOVERY_MS })
  await marks.assertFlushedOnce(t, since, { timeoutMs: RECOVERY_MS })
  worker.kill('SIGTERM')
  assert.deepEqual(await worker.untilExit({ timeoutMs: 20_000 }), { code: 0, signal: null })
  assert.deepEqual(worker.lines(/"level":(50|60)/), [])
  await until('no worker has a connection', async () => (await connections(database)) === 0)
}

async function connections({ pool }: TestDatabase): Promise<number> {
  const { rowCount } = await pool.query(
    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'workspace-usage worker'",
  )
  return rowCount ?? 0
}
