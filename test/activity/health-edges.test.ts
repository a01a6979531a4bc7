import assert from 'node:assert/strict'
import { test } from 'node:test'
import { usageCompleteSince } from '../../src/activity/complete-since.ts'
import { type HealthOptions, usageHealth } from '../../src/activity/health.ts'
import { flush } from '../../src/flush/flush.ts'
import { FAILED_FLUSH_QUEUE, FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

async function problemsOf({ pool }: TestDatabase, options?: HealthOptions) {
  return (await usageHealth(pool, options)).problems
}

async function codesOf(database: TestDatabase, options?: HealthOptions): Promise<string[]> {
  return (await problemsOf(database, options)).map(({ code }) => code)
}

for (const [version, server] of Object.entries({ 18: testServer, 15: testServer15 })) {
  const testWithDatabase = (name: string, body: (database: TestDatabase) => Promise<unknown>) =>
    test(`${name}, on PostgreSQL ${version}`, async t => {
      const url = await server()
      if (url === null) return t.skip(POSTGRES_15_MISSING)
      await using database = await createTestDatabase({ on: url })
      await flush(database.pool)
      await body(database)
    })

  testWithDatabase(
    'after a crash, failures that were over before it are no problem again',
    async database => {
      const { pool } = database
      await pool.query(
        `INSERT INTO pgboss.job (name, state, created_on, started_on, completed_on, output)
      SELECT name, state::pgboss.job_state, at, at, CASE WHEN name = $1 THEN at END, '{"message": "no such luck"}'
      FROM (VALUES ($1::text, 'failed', 40), ($1, 'completed', 30), ($2, 'created', 40)) AS job (name, state, ago),
        LATERAL (SELECT clock_timestamp() - make_interval(mins => ago) AS at) AS began`,
        [FLUSH_QUEUE, FAILED_FLUSH_QUEUE],
      )
      assert.deepEqual(await codesOf(database), [])
      await pool.query('TRUNCATE pending_usage, set_aside_usage, refused_usage, pending_usage_witness')
      // The template may be old, and the last flush is not known any more.
      await pool.query('UPDATE pgboss.queue SET created_on = clock_timestamp()')
      assert.deepEqual(await codesOf(database), ['reset'])
      await pool.query(
        `INSERT INTO pgboss.job (name, state, started_on, output)
      VALUES ($1, 'retry', clock_timestamp(), '{"message": "again"}')`,
        [FLUSH_QUEUE],
      )
      assert.deepEqual(await codesOf(database), ['flushes-fail', 'reset'])
      await flush(pool)
      assert.deepEqual(await codesOf(database), ['reset'])
    },
  )

  testWithDatabase('a loss is told before a flush has noted it', async database => {
    assert.deepEqual(await codesOf(database), [])
    // The database is a copy of a template. The first flush gets to know it.
    await flush(database.pool)
    // As a crash does, all UNLOGGED tables together.
    await database.pool.query('TRUNCATE pending_usage, set_aside_usage, refused_usage, pending_usage_witness')
    await database.pool.query('UPDATE pgboss.queue SET created_on = clock_timestamp()')
    const now = await usageCompleteSince(database.pool)
    assert.ok(Math.abs(Date.now() - now!.getTime()) < 5_000)
    const [unnoted, ...more] = await problemsOf(database)
    assert.deepEqual([unnoted?.code, unnoted?.since, more], ['reset', null, []])
    assert.match(unnoted!.message, /No flush has noted it yet/)
    await flush(database.pool)
    const [noted] = await problemsOf(database)
    assert.deepEqual([noted?.code, noted?.since instanceof Date], ['reset', true])
    assert.match(noted!.message, /by something unknown/)
    const health = await usageHealth(database.pool)
    assert.deepEqual(
      [health.lastResetReason, health.completeSince],
      ['unknown', await usageCompleteSince(database.pool)],
    )
    await database.pool.query('DELETE FROM pending_usage_reset')
    assert.equal(await usageCompleteSince(database.pool), null)
    assert.deepEqual(await codesOf(database), [])
  })

  testWithDatabase(
    'with an hourly schedule, a lag of an hour is no problem unless the limit says so',
    async database => {
      const { pool } = database
      await pool.query(`UPDATE pgboss.schedule SET cron = '0 * * * *', data = '{"intervalSeconds": 3600}'`)
      await storeClosedMarks(pool, await createWorkspaces(pool, 1), { agoMs: 3_717_000 })
      assert.deepEqual(await codesOf(database), [])
      assert.deepEqual(await codesOf(database, { maxLagSeconds: 3_600 }), ['lag'])
      await storeClosedMarks(pool, await createWorkspaces(pool, 1), { agoMs: 3_721_000 })
      assert.deepEqual(await codesOf(database), ['lag'])
    },
  )

  testWithDatabase(
    'a source is silent since its last mark, flushed or not, and each one is a problem',
    async database => {
      const { pool } = database
      await pool.query(`INSERT INTO source_usage (source, regular_since, last_used_at)
      SELECT source, clock_timestamp() - interval '3 days', clock_timestamp() - interval '5 hours'
      FROM unnest(ARRAY['a', 'b', 'c']) AS source`)
      const [id] = await createWorkspaces(pool, 1)
      const last = await storeClosedMarks(pool, [id!], { agoMs: 3 * 3_600_000, source: 'b' })
      await storeClosedMarks(pool, [id!], { agoMs: 3_000_000, source: 'c' })
      const silent = (await problemsOf(database, { maxLagSeconds: 86_400 })).map(
        ({ code, object, since }) => [code, object, since?.getTime() === last.getTime()],
      )
      assert.deepEqual(silent, [
        ['silent-source', 'a', false],
        ['silent-source', 'b', true],
      ])
    },
  )

  testWithDatabase('the verdict on 100,000 pending marks takes less than a second', async database => {
    const { pool } = database
    await pool.query(
      `INSERT INTO source_usage VALUES ('gone', now() - interval '3 days', now() - interval '5 hours')`,
    )
    await pool.query(`INSERT INTO pending_usage (period_end, workspace_id, source)
      SELECT now() - n % 200 * interval '30 s', gen_random_uuid(), 'test' FROM generate_series(1, 100000) n`)
    const times: number[] = []
    for (let run = 0; run < 5; run++) {
      const begun = performance.now()
      assert.deepEqual(await codesOf(database), ['lag', 'silent-source'])
      times.push(performance.now() - begun)
    }
    assert.ok(Math.min(...times) < 1_000, times.map(Math.round).join(', '))
  })
}
