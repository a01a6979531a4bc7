import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { PgBoss } from 'pg-boss'
import { grantPrivileges, revokePrivileges } from '../../src/access/grant.ts'
import type { Queryable } from '../../src/database/connection.ts'
import { InsufficientPrivilegeError, NotMigratedError, RowSecurityError } from '../../src/errors.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { reapIdle } from '../../src/reaper/reap-idle.ts'
import { REAP_QUEUE } from '../../src/worker/queue.ts'
import { type ReapJobOutput, startReaper } from '../../src/worker/reaper.ts'
import type { ReaperOptions } from '../../src/worker/reaper-options.ts'
import { createIdleWorkspaces } from '../reaper/idle-workspaces.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole } from '../support/roles.ts'
import { testServer } from '../support/test-server.ts'

const server15 = await testServer15()

for (const major of [18, 15] as const) {
  const on = major === 18 ? await testServer() : server15
  suite(`a reaper on PostgreSQL ${major}`, { skip: on === null && POSTGRES_15_MISSING }, async () => {
    if (on !== null) await reapersOn(on, major)
  })
}

async function reapersOn(server: string, major: 18 | 15): Promise<void> {
  const role = await createLoginRole(server, 'reaper')
  const database = await createTestDatabase(major === 15 ? { on: server } : {})
  const { pool } = database
  await pool.query('ALTER TABLE workspaces ADD COLUMN name text')
  await pool.query('REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public, pgboss FROM PUBLIC')
  const boss = new PgBoss({ connectionString: database.connectionString, migrate: false, schedule: false })
  boss.on('error', () => {})
  await boss.start()

  const start = (options: Partial<ReaperOptions> = {}) =>
    startReaper({
      database: role.connectionString(database),
      logger: collectLog().logger,
      idleFor: '1h',
      stop: () => {},
      pollSeconds: 0.5,
      maxPerMinute: 60_000,
      ...options,
    })

  test(`a role without the duty of a reaper is told the command that gives it, on PostgreSQL ${major}`, async () => {
    const refused = { name: 'InsufficientPrivilegeError', duty: 'reaper', command: /grant --reaper/ }
    await assert.rejects(start(), error => {
      assert.ok(error instanceof InsufficientPrivilegeError)
      assert.equal(error.duty, refused.duty)
      assert.match(error.command, refused.command)
      return true
    })
  })

  test(`a reaper with the privileges of its duty runs as a job, whose output has the counts, on PostgreSQL ${major}`, async () => {
    await grantPrivileges(pool, { reapers: [role.name] })
    const log = collectLog()
    const [idle, used] = await createIdleWorkspaces(pool, 2)
    await markUsage(pool, used!)
    const calls: string[] = []
    {
      await using _reaper = await start({
        logger: log.logger,
        cron: '7 3 * * 1',
        timeZone: 'Europe/Berlin',
        stop: (_client, id) => calls.push(id),
      })
      const { rows } = await pool.query('SELECT cron, timezone FROM pgboss.schedule WHERE name = $1', [
        REAP_QUEUE,
      ])
      assert.deepEqual(rows, [{ cron: '7 3 * * 1', timezone: 'Europe/Berlin' }])
      await boss.send(REAP_QUEUE)
      assert.deepEqual(await output(pool), [
        { idle: 1, stopped: 1, failed: 0, inUse: 0, held: 0, stoppedBefore: 0, gone: 0, ended: 'all' },
      ])
    }
    assert.deepEqual(calls, [idle])
    assert.deepEqual(
      log.lines.filter(({ level }) => level === 'warn' || level === 'error'),
      [],
    )
  })

  test(`a run that is refused is a job that succeeds and says why, on PostgreSQL ${major}`, async () => {
    await fresh(pool)
    await pool.query('INSERT INTO pending_usage_reset (noticed_at) VALUES (now())')
    await using _reaper = await start()
    await boss.send(REAP_QUEUE)
    const [{ ended, refused }] = (await output(pool)) as [ReapJobOutput]
    assert.deepEqual([ended, refused?.map(({ reason }) => reason)], ['refused', ['incomplete']])
    await pool.query('DELETE FROM pending_usage_reset')
  })

  test(`a reaper that is stopped finishes the workspace that is being stopped, on PostgreSQL ${major}`, async () => {
    await fresh(pool)
    await createIdleWorkspaces(pool, 3)
    const begun = Promise.withResolvers<void>()
    const free = Promise.withResolvers<void>()
    const reaper = await start({
      stop: async () => {
        begun.resolve()
        await free.promise
      },
    })
    await boss.send(REAP_QUEUE)
    await begun.promise
    const stopping = reaper.stop()
    free.resolve()
    await stopping
    const [{ ended, stopped }] = (await output(pool)) as [ReapJobOutput]
    assert.deepEqual([ended, stopped], ['aborted', 1])
  })

  test(`only one run is queued or active, and any number of reapers may be started, on PostgreSQL ${major}`, async () => {
    await fresh(pool)
    const ids = await createIdleWorkspaces(pool, 20)
    const calls: string[] = []
    const options = { stop: (_client: Queryable, id: string) => calls.push(id) }
    await using _first = await start(options)
    await using _second = await start(options)
    const sent = [await boss.send(REAP_QUEUE), await boss.send(REAP_QUEUE)]
    assert.equal(sent[1], null)
    assert.equal((await output(pool))[0]!.stopped, 20)
    assert.deepEqual(calls.toSorted(), ids.toSorted())
  })

  test(`the role of a reaper reaps by hand, and can neither mark, flush nor write more of workspaces, on PostgreSQL ${major}`, async () => {
    await fresh(pool)
    const [id] = await createIdleWorkspaces(pool, 1)
    const db = role.pool(database)
    const options = { pool: db, idleFor: 3_600, stop: () => {} }
    assert.equal((await reapIdle({ ...options, dryRun: true })).idle, 1)
    assert.equal((await reapIdle(options)).stopped, 1)
    const refused = [
      `INSERT INTO pending_usage (workspace_id) VALUES ('${id}')`,
      'DELETE FROM pending_usage',
      'DELETE FROM set_aside_usage',
      'INSERT INTO pending_usage_witness DEFAULT VALUES',
      'DELETE FROM pending_usage_reset',
      'SELECT FROM workspace_usage',
      'SELECT name FROM workspaces',
      `UPDATE workspaces SET name = 'x'`,
      'UPDATE workspaces SET id = gen_random_uuid()',
      'DELETE FROM workspaces',
      'INSERT INTO workspaces DEFAULT VALUES',
      'TRUNCATE stopped_workspaces',
      'CREATE TABLE public.mine ()',
      `UPDATE pgboss.bam SET command = 'x'`,
    ]
    for (const statement of refused) await assert.rejects(db.query(statement), { code: '42501' }, statement)
  })

  test(`each privilege of a reaper is needed by a run or by pg-boss, and revoke takes all back, on PostgreSQL ${major}`, async () => {
    await fresh(pool)
    const reap = () =>
      reapIdle({
        pool: role.pool(database),
        idleFor: 3_600,
        stop: () => {},
        maxPerMinute: 60_000,
      })
    const name = `"${role.name.replaceAll('"', '""')}"`
    const needed = [
      'SELECT ON workspace_activity',
      'EXECUTE ON FUNCTION no_hidden_usage(name, regclass[])',
      'EXECUTE ON FUNCTION usage_complete_since()',
      'SELECT ON pending_usage',
      'SELECT ON pending_usage_witness',
      'SELECT ON set_aside_usage',
      'SELECT ON refused_usage',
      'SELECT ON source_usage',
      'SELECT ON pending_usage_reset',
      'SELECT (id) ON workspaces',
      'UPDATE (last_used_at) ON workspaces',
      'SELECT ON stopped_workspaces',
      'INSERT ON stopped_workspaces',
      'UPDATE ON stopped_workspaces',
      'DELETE ON stopped_workspaces',
      'SELECT ON pgboss.job',
      'SELECT ON pgboss.queue',
      'SELECT ON pgboss.schedule',
    ]
    for (const privilege of needed) {
      await createIdleWorkspaces(pool, 1)
      await pool.query(`REVOKE ${privilege} FROM ${name}`)
      const failed = await reap().then(
        ({ failed }) => failed > 0,
        error => {
          assert.equal(error.code, '42501', privilege)
          return true
        },
      )
      assert.ok(failed, privilege)
      await pool.query(`GRANT ${privilege} TO ${name}`)
    }
    assert.ok((await reap()).failed === 0)
    await revokePrivileges(pool, { reapers: [role.name] })
    await assert.rejects(reap(), { code: '42501' })
    await grantPrivileges(pool, { reapers: [role.name] })
  })

  test(`grant refuses a reaper from whom row security would hide rows, on PostgreSQL ${major}`, async () => {
    await pool.query('ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY')
    try {
      await assert.rejects(grantPrivileges(pool, { reapers: [role.name] }), RowSecurityError)
    } finally {
      await pool.query('ALTER TABLE workspaces DISABLE ROW LEVEL SECURITY')
    }
  })

  test(`a wrong option, and a queue that is missing, are errors of the start, on PostgreSQL ${major}`, async () => {
    const wrong: [Partial<ReaperOptions>, RegExp][] = [
      [{ cron: 'hourly' }, /^cron is "hourly"; allowed: a cron expression of five fields/],
      [{ timeZone: 'Mars' }, /^timeZone is "Mars"; allowed: a time zone/],
      [{ pool: {} } as never, /^no such option: "pool"/],
      [{ idleFor: 'ever' }, /^idleFor is "ever"/],
    ]
    for (const [options, message] of wrong) await assert.rejects(start(options), { message })
    await assert.rejects(start({ cron: '99 * * * *' }), /99|cron/i)
    await boss.stop()
    await pool.query('SELECT pgboss.delete_queue($1)', [REAP_QUEUE])
    await assert.rejects(start(), NotMigratedError)
  })
}

async function fresh(pool: TestDatabase['pool']): Promise<void> {
  await pool.query(
    'TRUNCATE pending_usage, workspaces, stopped_workspaces, source_usage, set_aside_usage CASCADE',
  )
  await pool.query('DELETE FROM pgboss.job WHERE name = $1', [REAP_QUEUE])
}

/** The output of the runs, once all have ended. */
async function output(pool: TestDatabase['pool']): Promise<ReapJobOutput[]> {
  return await until('the run has ended', async () => {
    const { rows } = await pool.query('SELECT state, output FROM pgboss.job WHERE name = $1', [REAP_QUEUE])
    return rows.length > 0 && rows.every(({ state }) => state === 'completed')
      ? rows.map(({ output }) => output)
      : undefined
  })
}
