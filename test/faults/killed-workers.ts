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

/** A worker takes about a second until its first flush. So a kill meets a start, a flush or an idle worker. */
const LONGEST_LIFE_MS = 2_500

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
      await delay(random.integer(100, LONGEST_LIFE_MS))
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
