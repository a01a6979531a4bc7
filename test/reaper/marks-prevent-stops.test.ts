import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { reapIdle } from '../../src/reaper/reap-idle.ts'
import type { StopWorkspace } from '../../src/reaper/reap-options.ts'
import { stopIfStillIdle } from '../../src/reaper/stop-if-still-idle.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase } from '../support/database.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { createIdleWorkspaces } from './idle-workspaces.ts'

/*
 * The promise of the reaper: a mark that is stored before the second look at a workspace always prevents its stop. So a
 * mark is put before each statement of a whole run.
 */

const database = await createTestDatabase()
const { pool } = database
await pool.query('ALTER TABLE workspaces ADD COLUMN stopped boolean NOT NULL DEFAULT false')

const HOUR = 3_600

const stop: StopWorkspace = (client, id) =>
  client.query('UPDATE workspaces SET stopped = true WHERE id = $1', [id])

const RULES = { idleForSeconds: HOUR, stop, stopTimeoutSeconds: 10, again: false }

/** Whose statements are listened to. */
let beforeStatement: (text: string) => Promise<void> = async () => {}

/** A client that lets the test act before each of its statements. */
class HeardClient extends pg.Client {
  override query(text: unknown, values?: unknown, callback?: unknown): never {
    assert.equal(callback, undefined)
    const answer = async () => {
      await beforeStatement(String(text))
      return await super.query(text as string, values as unknown[])
    }
    return answer() as never
  }
}

const heard = new pg.Pool({ connectionString: database.connectionString, max: 1, Client: HeardClient })
atEnd(() => heard.end())

/** Flushes that are open until the run has ended. */
const openFlushers: pg.Client[] = []

/** Runs a reaper over one idle workspace, and does something before its statement of this number. */
async function runWith(at: number, act: (id: string) => Promise<unknown>) {
  await pool.query('TRUNCATE pending_usage, workspaces, stopped_workspaces, set_aside_usage CASCADE')
  const [id] = await createIdleWorkspaces(pool, 1)
  const statements: string[] = []
  beforeStatement = async text => {
    if (statements.length === at) await act(id!)
    statements.push(text)
  }
  const result = await reapIdle({ pool: heard, idleFor: HOUR, stop, maxPerMinute: 60_000 })
  beforeStatement = async () => {}
  for (const flusher of openFlushers.splice(0)) await flusher.query('COMMIT')
  return { id: id!, statements, result }
}

const ACTS: Record<string, (id: string) => Promise<unknown>> = {
  'a mark': id => markUsage(pool, id),
  'a mark of a closed period and its flush': async id => {
    await storeClosedMarks(pool, [id])
    await flush(pool)
  },
  'a mark of a closed period, whose flush is open until the run has ended,': async id => {
    await storeClosedMarks(pool, [id])
    const flusher = await database.connect()
    openFlushers.push(flusher)
    await flusher.query('BEGIN')
    await flush(flusher)
  },
}

for (const [what, act] of Object.entries(ACTS)) {
  test(`${what} before any statement up to the second look prevents the stop`, async () => {
    const { statements, result } = await runWith(-1, act)
    assert.equal(result.stopped, 1)
    const lookAt = statements.findIndex(text => text.includes('stoppedBefore'))
    const lockAt = statements.findIndex(text => text.includes('SKIP LOCKED') && !text.includes('DELETE'))
    assert.ok(lockAt > 5 && lookAt === lockAt + 1)
    for (let at = 0; at <= lookAt; at++) {
      const { id, result } = await runWith(at, act)
      assert.equal(result.stopped, 0, `before statement ${at}: ${statements[at]}`)
      const { rows } = await pool.query('SELECT stopped FROM workspaces WHERE id = $1', [id])
      assert.deepEqual(rows, [{ stopped: false }])
    }
  })
}

test('a mark after the second look comes too late, and is not lost', async () => {
  const { statements } = await runWith(-1, async () => {})
  const lookAt = statements.findIndex(text => text.includes('stoppedBefore'))
  for (let at = lookAt + 1; at < statements.length; at++) {
    const { id, result } = await runWith(at, async marked => await storeClosedMarks(pool, [marked]))
    assert.equal(result.stopped, 1, `before statement ${at}: ${statements[at]}`)
    await flush(pool)
    const { rows } = await pool.query(
      `SELECT last_used_at > now() - interval '1 minute' AS used FROM workspaces WHERE id = $1`,
      [id],
    )
    assert.deepEqual(rows, [{ used: true }])
  }
})

test('a reset of the marks before any statement of the run prevents the stop', async () => {
  const lose = () => pool.query('INSERT INTO pending_usage_reset (noticed_at) VALUES (now())')
  const { statements } = await runWith(-1, lose)
  const lookAt = statements.findIndex(text => text.includes('stoppedBefore'))
  for (let at = 0; at <= lookAt; at++) {
    const { result } = await runWith(at, lose)
    assert.deepEqual(
      [result.stopped, result.ended, result.refused.map(({ reason }) => reason)],
      [0, 'refused', ['incomplete']],
      `before statement ${at}: ${statements[at]}`,
    )
    await pool.query('DELETE FROM pending_usage_reset')
  }
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
      if ((await stopIfStillIdle(other.pool, id, RULES)).outcome === 'stopped') {
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
  assert.ok(stops >= 50 && stops < 300, `${stops} stops`)
})
