import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import type { ReapOutcome } from '../../src/reaper/outcome.ts'
import { reapIdle } from '../../src/reaper/reap-idle.ts'
import type { ReapOptions, StopWorkspace } from '../../src/reaper/reap-options.ts'
import { createTestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { storeClosedMarks } from '../support/seed.ts'
import { createIdleWorkspaces } from './idle-workspaces.ts'

const database = await createTestDatabase()
const { pool } = database
await pool.query('ALTER TABLE workspaces ADD COLUMN stopped boolean NOT NULL DEFAULT false')

const stop: StopWorkspace = (client, id) =>
  client.query('UPDATE workspaces SET stopped = true WHERE id = $1', [id])

const reap = (options: Partial<ReapOptions> = {}) =>
  reapIdle({ pool, idleFor: '1h', stop, maxPerMinute: 60_000, ...options })

beforeEach(async () => {
  await pool.query(
    'TRUNCATE pending_usage, workspaces, stopped_workspaces, source_usage, pending_usage_reset CASCADE',
  )
})

test('reapIdle stops what is idle for long enough, and nothing that is in use or was never used', async () => {
  const [idle, flushed, pending, never] = await createIdleWorkspaces(pool, 4)
  await storeClosedMarks(pool, [flushed!])
  await flush(pool)
  await storeClosedMarks(pool, [pending!])
  await pool.query('UPDATE workspaces SET last_used_at = NULL WHERE id = $1', [never])
  const result = await reap()
  assert.deepEqual(result, { ...NOTHING, idle: 1, stopped: 1 })
  assert.deepEqual(await stopped(), [idle])
})

test('reapIdle passes the facts of the second look to stop', async () => {
  const [id] = await createIdleWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!], { agoMs: 7_200_000, source: 'ssh' })
  await flush(pool)
  const { rows } = await pool.query(`SELECT date_trunc('milliseconds', last_used_at) AS at FROM workspaces`)
  await reap({
    stop: (_client, workspaceId, { idleSeconds, signal, ...facts }) => {
      assert.equal(workspaceId, id)
      assert.deepEqual(facts, { lastUsedAt: rows[0].at, source: 'ssh', createdAt: null })
      assert.ok(idleSeconds >= 7_200 && idleSeconds < 7_400)
      assert.equal(signal.aborted, false)
    },
  })
})

test('a workspace that is held by the application is skipped and counted, and the next run stops it', async () => {
  const [held, free] = await createIdleWorkspaces(pool, 2)
  const holder = await database.connect()
  await holder.query('BEGIN')
  await holder.query('SELECT FROM workspaces WHERE id = $1 FOR UPDATE', [held])
  assert.deepEqual(await reap(), { ...NOTHING, idle: 2, stopped: 1, held: 1 })
  assert.deepEqual(await stopped(), [free])
  await holder.query('COMMIT')
  assert.deepEqual(await reap(), { ...NOTHING, idle: 1, stopped: 1 })
})

test('a stop that fails is rolled back, counted and told, and the reaper goes on', async () => {
  const [bad, good] = await createIdleWorkspaces(pool, 2)
  const log = collectLog()
  const outcomes: ReapOutcome[] = []
  const result = await reap({
    logger: log.logger,
    onOutcome: outcome => outcomes.push(outcome),
    stop: async (client, id, facts) => {
      await stop(client, id, facts)
      if (id === bad) throw new Error('the cloud said no')
    },
  })
  const failures = [{ workspaceId: bad, message: 'the cloud said no' }]
  assert.deepEqual(result, { ...NOTHING, idle: 2, stopped: 1, failed: 1, failures })
  assert.deepEqual(await stopped(), [good])
  assert.deepEqual(
    outcomes.map(({ workspaceId, outcome, error }) => [workspaceId, outcome, (error as Error)?.message]),
    [
      [bad, 'failed', 'the cloud said no'],
      [good, 'stopped', undefined],
    ],
  )
  assert.deepEqual(
    log.lines.map(({ message }) => message),
    [
      'an idle workspace could not be stopped; the reaper goes on',
      'stopped an idle workspace',
      'looked for idle workspaces',
    ],
  )
  await until('both are free', () => pool.query('SELECT FROM workspaces FOR UPDATE NOWAIT'))
})

test('a stop that hides the error of its statement has failed, and so has one whose COMMIT is refused', async () => {
  const [hides, deferred] = await createIdleWorkspaces(pool, 2)
  await pool.query(`CREATE TABLE held_back (id uuid REFERENCES workspaces DEFERRABLE INITIALLY DEFERRED)`)
  const result = await reap({
    stop: async (client, id) => {
      if (id === hides) await client.query('SELECT 1 / 0').catch(() => {})
      else await client.query('INSERT INTO held_back VALUES (gen_random_uuid())')
    },
  })
  await pool.query('DROP TABLE held_back')
  assert.deepEqual([result.stopped, result.failed], [0, 2])
  assert.deepEqual(
    result.failures.map(({ workspaceId }) => workspaceId),
    [hides, deferred],
  )
})

test('a stop that takes too long is told so, and frees the workspace', async () => {
  await createIdleWorkspaces(pool, 1)
  let signal: AbortSignal | undefined
  let late: Promise<unknown> = Promise.resolve()
  const result = await reap({
    stopTimeoutSeconds: 0.1,
    stop: async (client, id, facts) => {
      signal = facts.signal
      await new Promise(resolve => signal!.addEventListener('abort', resolve))
      late = Promise.allSettled([stop(client, id, facts)])
      await late
    },
  })
  assert.equal(result.failed, 1)
  assert.match(result.failures[0]!.message, /did not end within 0.1 s\. Its transaction is rolled back/)
  assert.equal(signal?.aborted, true)
  await late
  assert.deepEqual(await stopped(), [])
  await until('it is free', () => pool.query('SELECT FROM workspaces FOR UPDATE NOWAIT'))
})

test('a workspace is stopped once, and again only after it was used', async () => {
  const [id] = await createIdleWorkspaces(pool, 1)
  assert.equal((await reap()).stopped, 1)
  assert.deepEqual(await reap(), NOTHING)
  assert.equal((await reap({ again: true })).stopped, 1)
  assert.deepEqual(await reap(), NOTHING)
  await storeClosedMarks(pool, [id!], { agoMs: 2 * 3_600_000 })
  await flush(pool)
  assert.equal((await reap()).stopped, 1)
})

test('several reapers at once stop each workspace once', async () => {
  const ids = await createIdleWorkspaces(pool, 40)
  const calls: string[] = []
  const results = await Promise.all(
    [1, 2, 3, 4].map(() => reap({ stop: (_client, id) => void calls.push(id) })),
  )
  assert.deepEqual(calls.toSorted(), ids.toSorted())
  assert.equal(
    results.reduce((sum, { stopped }) => sum + stopped, 0),
    40,
  )
})

test('a workspace that stop deletes leaves no trace, and one that is deleted later is forgotten by the next run', async () => {
  const [first, second] = await createIdleWorkspaces(pool, 2)
  await reap({
    stop: (client, id) => (id === first ? client.query('DELETE FROM workspaces WHERE id = $1', [id]) : null),
  })
  const noted = async () => (await pool.query('SELECT workspace_id FROM stopped_workspaces')).rows
  assert.deepEqual(await noted(), [{ workspace_id: second }])
  await pool.query('DELETE FROM workspaces')
  await reap()
  assert.deepEqual(await noted(), [])
})

test('a run ends at its limit, of stops or of failures', async () => {
  await createIdleWorkspaces(pool, 5)
  const failing = await reap({ limit: 2, stop: () => Promise.reject(new Error('no')) })
  assert.deepEqual([failing.failed, failing.ended], [2, 'limit'])
  assert.deepEqual(await reap({ limit: 2 }), { ...NOTHING, idle: 2, stopped: 2, ended: 'limit' })
})

test('an aborted run ends after the workspace that is being stopped', async () => {
  await createIdleWorkspaces(pool, 3)
  const ending = new AbortController()
  const result = await reap({
    signal: ending.signal,
    maxPerMinute: 1,
    stop: async (client, id, facts) => {
      ending.abort()
      await stop(client, id, facts)
    },
  })
  assert.deepEqual(result, { ...NOTHING, idle: 1, stopped: 1, ended: 'aborted' })
  assert.equal((await stopped()).length, 1)
  assert.deepEqual(await reap({ signal: AbortSignal.abort() }), { ...NOTHING, ended: 'aborted' })
})

test('a dry run lists what would be stopped, calls no stop and writes nothing', async () => {
  const ids = await createIdleWorkspaces(pool, 3)
  const outcomes: ReapOutcome[] = []
  const options = { dryRun: true, onOutcome: (outcome: ReapOutcome) => outcomes.push(outcome) }
  const stop = () => assert.fail('stop was called')
  assert.deepEqual(await reap({ ...options, stop, limit: 2 }), {
    ...NOTHING,
    dryRun: true,
    idle: 2,
    ended: 'limit',
  })
  assert.deepEqual(
    outcomes.map(({ workspaceId, outcome }) => [workspaceId, outcome]),
    ids.slice(0, 2).map(id => [id, 'would-stop']),
  )
  assert.deepEqual((await pool.query('SELECT FROM stopped_workspaces')).rows, [])
})

test('a pool of one connection is enough', async () => {
  const [idle] = await createIdleWorkspaces(pool, 1)
  const { Pool } = (await import('pg')).default
  const narrow = new Pool({ connectionString: database.connectionString, max: 1 })
  assert.equal((await reap({ pool: narrow })).stopped, 1)
  await narrow.end()
  assert.deepEqual(await stopped(), [idle])
})

test('a wrong option of reapIdle is refused before anything is sent', async () => {
  const wrong: [Partial<ReapOptions>, RegExp][] = [
    [{ idleFor: '30' }, /^idleFor is "30"; allowed: 1 to 3162240000 seconds, or a whole number and a unit/],
    [{ idleFor: '0d' }, /^idleFor is "0d"/],
    [{ idleFor: '9999w' }, /^idleFor is "9999w"/],
    [{ idleFor: 0 }, /^idleFor is 0/],
    [{ stop: undefined as never }, /^stop is undefined; allowed: a function/],
    [{ pool: {} as never }, /^pool is/],
    [{ limit: 0 }, /^limit is 0; allowed: an integer from 1 to 1000000/],
    [{ maxPerMinute: 0 }, /^maxPerMinute is 0/],
    [{ idleFr: 1 } as never, /^no such option: "idleFr"\. Did you mean "idleFor"/],
  ]
  for (const [options, message] of wrong) await assert.rejects(reap(options), { message })
})

test('a mark that is stored while stop runs is not lost', async () => {
  const [id] = await createIdleWorkspaces(pool, 1)
  let periodEnd: Date | undefined
  await reap({
    stop: async (client, workspaceId, facts) => {
      periodEnd = await storeClosedMarks(pool, [workspaceId])
      assert.equal((await flush(pool)).held, 1)
      await stop(client, workspaceId, facts)
    },
  })
  assert.equal((await flush(pool)).updated, 1)
  const { rows } = await pool.query(
    `SELECT stopped, date_trunc('milliseconds', last_used_at) AS at FROM workspaces WHERE id = $1`,
    [id],
  )
  assert.deepEqual(rows, [{ stopped: true, at: periodEnd }])
})

test('a mark of one workspace that is stored while another is stopped prevents its stop', async () => {
  const [first, second, third] = await createIdleWorkspaces(pool, 3)
  const result = await reap({
    stop: async (client, id, facts) => {
      if (id === first) await markUsage(pool, second!)
      await stop(client, id, facts)
    },
  })
  assert.deepEqual(result, { ...NOTHING, idle: 3, stopped: 2, inUse: 1 })
  assert.deepEqual(await stopped(), [first, third])
})

const NOTHING = {
  dryRun: false,
  idle: 0,
  stopped: 0,
  failed: 0,
  inUse: 0,
  held: 0,
  stoppedBefore: 0,
  gone: 0,
  refused: [],
  ended: 'all',
  failures: [],
}

async function stopped(): Promise<string[]> {
  const { rows } = await pool.query('SELECT id FROM workspaces WHERE stopped ORDER BY last_used_at')
  return (rows as { id: string }[]).map(({ id }) => id)
}
