import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { RowSecurityError } from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { reapIdle, reapWith } from '../../src/reaper/reap-idle.ts'
import { type ReapOptions, reapSettings } from '../../src/reaper/reap-options.ts'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { createTestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { createLoginRole } from '../support/roles.ts'
import { storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'
import { createIdleWorkspaces } from './idle-workspaces.ts'

const owner = await createLoginRole(await testServer(), 'owner')
const database = await createTestDatabase()
const { pool } = database
const calls: string[] = []

const reap = (options: Partial<ReapOptions> = {}) =>
  reapIdle({ pool, idleFor: '1h', stop: (_client, id) => calls.push(id), maxPerMinute: 60_000, ...options })

let idle = ''

beforeEach(async () => {
  await pool.query(`TRUNCATE pending_usage, workspaces, stopped_workspaces, source_usage, set_aside_usage,
    pending_usage_reset, pgboss.job CASCADE`)
  calls.length = 0
  idle = (await createIdleWorkspaces(pool, 1))[0]!
})

async function refusedFor(reason: string, options: Partial<ReapOptions> = {}): Promise<string> {
  const log = collectLog()
  const { stopped, ended, refused } = await reap({ logger: log.logger, ...options })
  assert.deepEqual([stopped, ended, refused.map(found => found.reason)], [0, 'refused', [reason]])
  assert.deepEqual(calls, [])
  assert.equal(
    log.lines[0]!.message,
    `no idle workspace is stopped: ${refused[0]!.message} ${refused[0]!.remedy}`,
  )

  const dry = await reap({ dryRun: true, ...options })
  assert.deepEqual(
    [dry.idle >= 1, dry.ended, dry.refused.map(found => found.reason)],
    [true, 'all', [reason]],
  )
  return refused[0]!.message
}

test('nothing is stopped if marks were lost within the time for which a workspace must be idle', async () => {
  await pool.query(`INSERT INTO pending_usage_reset (noticed_at) VALUES (now() - interval '2 h')`)
  assert.match(await refusedFor('incomplete', { idleFor: '3h' }), /and a workspace must be idle for 3h\.$/)
  assert.equal((await reap({ idleFor: '1h' })).stopped, 1)
})

test('nothing is stopped if marks were lost and no flush has noticed it yet', async () => {
  await storeClosedMarks(pool, [idle], { agoMs: 2 * 3_600_000 })
  await flush(pool)
  await pool.query('TRUNCATE pending_usage_witness')
  try {
    await refusedFor('incomplete')
  } finally {
    await flush(pool)
  }
})

test('nothing is stopped while the lag is too long, and the limit can be set', async () => {
  const [other] = await createIdleWorkspaces(pool, 1)
  await storeClosedMarks(pool, [other!], { agoMs: 600_000 })
  assert.match(await refusedFor('lag'), /^The lag is 60\d\.\d s, above 180 s/)
  assert.deepEqual((await reap({ maxLagSeconds: 700 })).stopped, 1)
  assert.deepEqual(calls, [idle])
})

test('nothing is stopped while a regular source is silent, and the limit can be set', async () => {
  await pool.query(`INSERT INTO source_usage (source, last_used_at, regular_since)
    VALUES ('ssh', now() - interval '2 h', now() - interval '3 days')`)
  assert.match(await refusedFor('silent-source'), /^The source "ssh" was seen every hour for a day/)
  assert.equal((await reap({ silentAfterSeconds: 10_000 })).stopped, 1)
})

test('nothing is stopped while flushes fail again and again, and one failure is no reason', async () => {
  const fail = (retries: number) =>
    pool.query(
      `INSERT INTO pgboss.job (name, state, retry_count, started_on, completed_on, created_on, output)
      VALUES ($1, 'failed', $2, clock_timestamp(), clock_timestamp(), clock_timestamp(), '{"message": "disk full"}')`,
      [FLUSH_QUEUE, retries],
    )
  await fail(0)
  assert.equal((await reap()).stopped, 1)
  await pool.query('DELETE FROM stopped_workspaces')
  calls.length = 0
  await fail(3)
  assert.match(await refusedFor('flushes-fail'), /disk full/)
})

test('nothing is stopped while nearly all marks are of workspaces that do not exist', async () => {
  const strangers = Array.from({ length: 5 }, () => crypto.randomUUID())
  await storeClosedMarks(pool, strangers)
  await flush(pool, { unknownAfterSeconds: 3_600 })
  await refusedFor('unknown')
})

test('a run that takes long asks again, and stops nothing more once use is not known completely', async () => {
  const [other] = await createIdleWorkspaces(pool, 1)
  const stop = async (_client: unknown, id: string) => {
    calls.push(id)
    await storeClosedMarks(pool, [other!], { agoMs: 600_000 })
  }
  const options = { pool, idleFor: '1h', stop, maxPerMinute: 60_000 }
  await createIdleWorkspaces(pool, 1)
  const { idle, stopped, ended, refused } = await reapWith(reapSettings(options), 0)
  assert.deepEqual([idle, stopped, ended, refused.map(({ reason }) => reason)], [1, 1, 'refused', ['lag']])
})

test('a workspace that is in use until a time ahead is not stopped, and one that only an ignored source keeps is, though another ignored one is silent', async () => {
  const [ignored] = await createIdleWorkspaces(pool, 1)
  await pool.query('SELECT mark_usage_until($1, now() + interval $$2 h$$)', [idle])
  await pool.query(`INSERT INTO source_usage (source, last_used_at, regular_since, counts)
    VALUES ('poller', now(), now(), false), ('dashboard', now() - interval '2 h', now() - interval '3 days', false)`)
  await storeClosedMarks(pool, [ignored!], { source: 'poller' })
  assert.equal((await reap()).stopped, 1)
  assert.deepEqual(calls, [ignored])
})

test('a reaper whose role can not see all rows gets a RowSecurityError, and stops nothing', async () => {
  await pool.query(`GRANT ALL ON ALL TABLES IN SCHEMA public, pgboss TO "${owner.name.replaceAll('"', '""')}";
    GRANT USAGE ON SCHEMA pgboss TO "${owner.name.replaceAll('"', '""')}"`)
  await pool.query('ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY')
  try {
    for (const dryRun of [false, true])
      await assert.rejects(reap({ pool: owner.pool(database), dryRun }), RowSecurityError)
  } finally {
    await pool.query('ALTER TABLE workspaces DISABLE ROW LEVEL SECURITY')
  }
  assert.deepEqual(calls, [])
})
