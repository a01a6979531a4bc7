import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type pg from 'pg'
import { pendingStatus } from '../../src/activity/status.ts'
import { drain } from '../../src/flush/drain.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

/*
 * The clock of the server steps. What it stored meanwhile has a period far ahead or far in the past. It would take
 * another clock for the whole server to make such rows, so the owner of the table stores them.
 */

const YEAR_MS = 365 * 86_400_000

for (const [test15, on] of [
  ['', null],
  [' on PostgreSQL 15', onPostgres15],
] as const) {
  const run = (t: TestContext, body: (t: TestContext, database: TestDatabase) => Promise<void>) =>
    on === null
      ? createTestDatabase().then(database => body(t, database))
      : on(t, database => body(t, database))

  test(`marks of a clock that stood years behind are flushed, and move no last use backwards${test15}`, async t => {
    await run(t, clockBehind)
  })
  test(`marks of a clock that stood ahead are flushed when their time has come, not before, and hold up no other mark${test15}`, async t => {
    await run(t, clockAhead)
  })
}

async function clockBehind(t: TestContext, { pool }: TestDatabase): Promise<void> {
  const [usedSince, never, old] = (await createWorkspaces(pool, 3)) as [string, string, string]
  const now = await storeClosedMarks(pool, [usedSince])
  await drain(pool)
  for (const years of [1, 20, 50]) {
    await storeClosedMarks(pool, [usedSince, never, old], { agoMs: years * YEAR_MS })
  }
  assert.ok((await pendingStatus(pool)).lagSeconds > 49 * (YEAR_MS / 1_000), 'the lag tells')
  const { flushed } = await drain(pool)
  const [kept, moved] = await lastUsedAt(pool, [usedSince, never])
  t.diagnostic(`marked 9, survived ${flushed}, lost ${9 - flushed}, recovered at once`)
  assert.equal(flushed, 9)
  assert.deepEqual(kept, now, 'an older mark moves nothing backwards')
  assert.ok(
    Math.abs(Date.now() - YEAR_MS - moved!.getTime()) < 60_000,
    'the newest of the old periods counts',
  )
  // The right time is the later one.
  const again = await storeClosedMarks(pool, [never, old])
  await drain(pool)
  assert.deepEqual(await lastUsedAt(pool, [never, old]), [again, again])
  assert.equal((await pendingStatus(pool)).lagSeconds, 0)
}

async function clockAhead(t: TestContext, { pool }: TestDatabase): Promise<void> {
  const AHEAD_MS = 3_000
  const [soon, far, flushedAhead, present] = (await createWorkspaces(pool, 4)) as [
    string,
    string,
    string,
    string,
  ]
  await setPeriodLength(pool, 0.2)
  const comes = await storeClosedMarks(pool, [soon], { agoMs: -AHEAD_MS })
  await storeClosedMarks(pool, [far, present], { agoMs: -YEAR_MS })
  // What was flushed while the clock stood ahead stays, because nothing moves backwards.
  await pool.query("UPDATE workspaces SET last_used_at = now() + interval '1 day' WHERE id = $1", [
    flushedAhead,
  ])
  const [ahead] = await lastUsedAt(pool, [flushedAhead])

  const before = Date.now()
  await markUsage(pool, [far, flushedAhead, present])
  let sawTooEarly = false
  const since = performance.now()
  await until('the near period is flushed', async () => {
    await drain(pool)
    const [used] = await lastUsedAt(pool, [soon])
    sawTooEarly ||= used !== null && used !== undefined && (await isBefore(pool, comes))
    return used
  })
  const seconds = ((performance.now() - since) / 1_000).toFixed(1)
  assert.equal(sawTooEarly, false, 'no period is flushed before its end')
  const times = await lastUsedAt(pool, [soon, far, flushedAhead, present])
  assert.deepEqual(times[0], comes)
  assert.deepEqual(times[2], ahead)
  for (const time of [times[1]!, times[3]!]) {
    assert.ok(
      time.getTime() >= before && time.getTime() <= Date.now(),
      'marks of the present are flushed as ever',
    )
  }
  const status = await pendingStatus(pool)
  assert.deepEqual([status.open, status.closed, status.lagSeconds], [2, 0, 0])
  const pending = await pendingCount(pool)
  t.diagnostic(
    `marked 6, survived ${6 - pending} and ${pending} that wait for their time, lost 0, recovered in ${seconds} s`,
  )
  assert.equal(pending, 2)
}

/** Whether a time is still ahead for the server. */
async function isBefore(pool: pg.Pool, time: Date): Promise<boolean> {
  const { rows } = await pool.query('SELECT clock_timestamp() < $1 AS before', [time])
  return rows[0].before
}
