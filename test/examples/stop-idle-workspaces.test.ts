import assert from 'node:assert/strict'
import { join } from 'node:path'
import { beforeEach, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import type { Stop } from '../../examples/stop-idle-workspaces.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { createConsumerOfExamples } from '../support/consumer.ts'
import { createTestDatabase } from '../support/database.ts'
import { untilBlockedBy } from '../support/locks.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { runProgram } from '../support/process.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

const example = join(createConsumerOfExamples(), 'stop-idle-workspaces.ts')
const { stopIdleWorkspaces, stopIfStillIdle }: typeof import('../../examples/stop-idle-workspaces.ts') =
  await import(pathToFileURL(example).href)
const database = await createTestDatabase()
const { pool } = database
await pool.query('ALTER TABLE workspaces ADD COLUMN stopped boolean NOT NULL DEFAULT false')

const HOUR = 3_600

const stop: Stop = async (client, workspaceId) => {
  await client.query('UPDATE workspaces SET stopped = true WHERE id = $1', [workspaceId])
}

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('stopIdleWorkspaces stops workspaces that are idle for long enough, and none that is in use or was never used', async () => {
  const [idle, flushed, pending, never] = await createIdleWorkspaces(4)
  await storeClosedMarks(pool, [flushed!])
  await flush(pool)
  await storeClosedMarks(pool, [pending!])
  await pool.query('UPDATE workspaces SET last_used_at = NULL WHERE id = $1', [never])
  assert.deepEqual(await stopIdleWorkspaces(pool, HOUR, stop), [idle])
  assert.deepEqual(await stopped(), [idle])
})

test('a mark that is stored after the listing of idle workspaces and before the recheck prevents the stop of its workspace', async () => {
  const [first, second, third] = await createIdleWorkspaces(3)
  const stops = await stopIdleWorkspaces(pool, HOUR, async (client, workspaceId) => {
    if (workspaceId === first) await markUsage(pool, second!)
    await stop(client, workspaceId)
  })
  assert.deepEqual(stops, [first, third])
  assert.deepEqual(await stopped(), [first, third])
})

test('a mark that is stored while the recheck waits for a flush of an older mark prevents the stop of its workspace', async () => {
  const [id] = await createIdleWorkspaces(1)
  await storeClosedMarks(pool, [id!], { agoMs: 2 * HOUR * 1_000 })
  const flusher = await database.connect()
  await flusher.query('BEGIN')
  assert.equal((await flush(flusher)).updated, 1)

  const stopping = stopIfStillIdle(pool, id!, HOUR, stop)
  await untilBlockedBy(pool, flusher.processID)
  await markUsage(pool, id!)
  await flusher.query('COMMIT')
  assert.equal(await stopping, false)
  assert.deepEqual(await stopped(), [])
})

test('a mark that an uncommitted flush has consumed prevents the stop of its workspace', async () => {
  const [id] = await createIdleWorkspaces(1)
  await storeClosedMarks(pool, [id!])
  const flusher = await database.connect()
  await flusher.query('BEGIN')
  assert.equal((await flush(flusher)).updated, 1)

  const stopping = stopIfStillIdle(pool, id!, HOUR, stop)
  await untilBlockedBy(pool, flusher.processID)
  await flusher.query('COMMIT')
  assert.equal(await stopping, false)
  assert.deepEqual(await stopped(), [])
})

test('marks that come while a workspace is stopped are held by every flush, and flushed afterwards', async () => {
  const [id] = await createIdleWorkspaces(1)
  let periodEnd: Date | undefined
  const done = await stopIfStillIdle(pool, id!, HOUR, async (client, workspaceId) => {
    periodEnd = await storeClosedMarks(pool, [id!])
    assert.equal((await flush(pool)).held, 1)
    await stop(client, workspaceId)
  })
  assert.equal(done, true)
  assert.equal((await flush(pool)).updated, 1)
  const { rows } = await pool.query(
    `SELECT stopped, date_trunc('milliseconds', last_used_at) AS last_used_at FROM workspaces`,
  )
  assert.deepEqual(rows, [{ stopped: true, last_used_at: periodEnd }])
})

test('a stop of a workspace that fails changes nothing, and releases the workspace', async () => {
  const [id] = await createIdleWorkspaces(1)
  const failing = stopIfStillIdle(pool, id!, HOUR, async (client, workspaceId) => {
    await stop(client, workspaceId)
    throw new Error('the cloud said no')
  })
  await assert.rejects(failing, /the cloud said no/)
  assert.deepEqual(await stopped(), [])
  await until('the workspace is free', () => pool.query('SELECT FROM workspaces FOR UPDATE NOWAIT'))
})

test('a workspace that was deleted since the listing is not stopped', async () => {
  const [id] = await createIdleWorkspaces(1)
  await pool.query('DELETE FROM workspaces')
  assert.equal(await stopIfStillIdle(pool, id!, HOUR, stop), false)
})

test('no workspace that was marked before is stopped while marks, flushes and stops run at the same time', async () => {
  const other = await createTestDatabase()
  await other.pool.query('ALTER TABLE workspaces ADD COLUMN stopped boolean NOT NULL DEFAULT false')
  // Short periods, so that marks are flushed while this runs.
  await setPeriodLength(other.pool, 0.02)
  const ids = await createWorkspaces(other.pool, 300)
  await other.pool.query(`UPDATE workspaces SET last_used_at = now() - interval '1 day'`)

  const marked = new Set<string>()
  const wrong: string[] = []
  let stops = 0
  let flushed = 0
  let busy = true
  const mark = async () => {
    for (const id of ids.filter((_, n) => n % 3 !== 0).toSorted(() => Math.random() - 0.5)) {
      await markUsage(other.pool, id)
      marked.add(id)
    }
  }
  const flushAll = async () => {
    while (busy) flushed += (await flush(other.pool, { batchSize: 50 })).flushed
  }
  const stopAll = async (part: number) => {
    for (const id of ids.filter((_, n) => n % 4 === part)) {
      const before = marked.has(id)
      if (await stopIfStillIdle(other.pool, id, HOUR, stop)) {
        stops++
        if (before) wrong.push(id)
      }
    }
  }
  const flushing = [flushAll(), flushAll()]
  await Promise.all([mark(), stopAll(0), stopAll(1), stopAll(2), stopAll(3)])
  await until('marks are flushed', () => flushed > 0)
  busy = false
  await Promise.all(flushing)
  assert.deepEqual(wrong, [])
  assert.ok(stops >= 100 && stops < 300, `${stops} stops`)
})

test('the example stop-idle-workspaces, run as a program, prints what it would stop', async () => {
  const [idle, used] = await createIdleWorkspaces(2)
  await markUsage(pool, used!)
  const { code, stdout, stderr } = await runProgram(example, ['0.5'], {
    env: { DATABASE_URL: database.connectionString },
  })
  assert.equal(stderr, '')
  assert.equal(stdout, `would stop ${idle}\nnot used for 0.5 days: 1\n`)
  assert.equal(code, 0)
})

/** Workspaces that were last used a day ago. The first is idle for the longest time. */
async function createIdleWorkspaces(count: number): Promise<string[]> {
  const ids = await createWorkspaces(pool, count)
  await pool.query(
    `UPDATE workspaces SET last_used_at = now() - interval '1 day' + n * interval '1 s'
    FROM unnest($1::uuid[]) WITH ORDINALITY AS made (made_id, n) WHERE id = made_id`,
    [ids],
  )
  return ids
}

async function stopped(): Promise<string[]> {
  const { rows } = await pool.query('SELECT id FROM workspaces WHERE stopped ORDER BY last_used_at')
  return (rows as { id: string }[]).map(({ id }) => id)
}
