import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type pg from 'pg'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import type { TestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, storeClosedMarks } from '../support/seed.ts'

/*
 * While a transaction is open, VACUUM can't remove what was deleted after its start. A dump may take an hour, and
 * flushed marks are deleted rows. So flushes and views must not walk over them.
 */

/** So many workspaces share the dead marks. Each period has one mark of each. */
const WORKSPACES = 10_000

const FILL_BATCH = 20
const DRAIN_BATCH = 100_000
const ROUNDS = 5

/** The more dead marks there are, the rarer a flush walks over all of them: here after 5 s, with six million after 8 minutes. */
const MOST_TO_AWAIT = 60_000

/** What keeps the dead marks. It is open before the first mark is flushed, and stays open to the end. */
export const HOLDERS: Record<string, (holder: pg.Client) => Promise<unknown>> = {
  'a snapshot': holder => begin(holder, 'SELECT count(*) FROM pending_usage_witness'),
  'a dump': async holder => {
    await begin(holder, 'SELECT')
    const { rows } = await holder.query(
      "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    )
    for (const { name } of rows) await holder.query(`LOCK TABLE ONLY ${name} IN ACCESS SHARE MODE`)
  },
  // Every transaction that has written holds VACUUM back, also without a snapshot.
  'a transaction that has marked': async holder => {
    await holder.query('BEGIN')
    await holder.query("INSERT INTO pending_usage (workspace_id, source) VALUES (gen_random_uuid(), 'long')")
  },
}

async function begin(holder: pg.Client, firstStatement: string): Promise<void> {
  await holder.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
  await holder.query(firstStatement)
}

/**
 * Flushes `marks` marks under an open transaction. Then an empty flush, and the views of one workspace, must be quick,
 * and marks of old periods that come late must not be missed.
 *
 * @param limitMs What an empty flush and a look at one workspace may take in the middle.
 */
export async function flushUnder(
  hold: (holder: pg.Client) => Promise<unknown>,
  marks: number,
  database: TestDatabase,
  t: TestContext,
  limitMs = Number.POSITIVE_INFINITY,
): Promise<void> {
  const { pool } = database
  const ids = await createWorkspaces(pool, WORKSPACES)
  const [late, later] = await createWorkspaces(pool, 2)
  await hold(await database.connect())
  const lateMarker = await database.connect()
  await lateMarker.query('BEGIN')
  const lateEnd = await storeClosedMarks(lateMarker, [late!], { agoMs: 62_500 })

  const periods = Math.ceil(marks / WORKSPACES)
  const newestEnd = await fill(pool, ids, periods)
  const { flushed, flushes } = await drain(pool, { batchSize: DRAIN_BATCH, timeoutSeconds: 300 })
  assert.equal(flushed, periods * WORKSPACES)

  const times = {
    'empty flush': await timed(async () => assert.equal((await flush(pool)).flushed, 0)),
    workspace_activity: await timed(() => activity(pool, 'workspace_activity', ids[0]!)),
    workspace_activity_by_source: await timed(() => activity(pool, 'workspace_activity_by_source', ids[0]!)),
  }
  t.diagnostic(`${flushed} marks flushed in ${flushes} flushes, all dead, none lost: ${describe(times)}`)

  // It was stored before all those flushes, and commits only now.
  await lateMarker.query('COMMIT')
  await assertTaken(pool, late!, lateEnd)
  // It comes now, into a period as old: the server's clock has stepped back. Every now and then a flush looks everywhere.
  if (marks <= MOST_TO_AWAIT) {
    const laterEnd = await storeClosedMarks(pool, [later!], { agoMs: periods * 1_000 })
    await until('a flush takes the mark', async () => (await flush(pool)).flushed === 1, {
      timeoutMs: 30_000,
    })
    assert.deepEqual(await lastUsedAt(pool, [later!]), [laterEnd])
  }

  const { rows } = await pool.query(
    'SELECT DISTINCT last_used_at FROM workspaces WHERE id <> ALL ($1::uuid[])',
    [[late, later]],
  )
  assert.deepEqual(rows, [{ last_used_at: newestEnd }])
  for (const [what, { median }] of Object.entries(times)) {
    assert.ok(median < limitMs, `${what} took ${median.toFixed(1)} ms among ${marks} dead marks`)
  }
}

/** Stores a mark of each workspace in each of the periods, the oldest first. Returns the end of the last period. */
async function fill(pool: pg.Pool, ids: string[], periods: number): Promise<Date> {
  const { rows } = await pool.query("SELECT date_trunc('second', now()) - interval '1 minute' AS newest")
  const { newest } = rows[0] as { newest: Date }
  for (let left = periods; left > 0; left -= FILL_BATCH) {
    await pool.query(
      `INSERT INTO pending_usage (period_end, workspace_id, source)
      SELECT $1::timestamptz - ago * interval '1 second', id, 'ssh'
      FROM generate_series($2::int, $3, -1) AS ago, unnest($4::uuid[]) AS id`,
      [newest, left - 1, Math.max(0, left - FILL_BATCH), ids],
    )
  }
  return newest
}

async function activity(pool: pg.Pool, view: string, id: string): Promise<void> {
  const { rows } = await pool.query(`SELECT * FROM ${view} WHERE workspace_id = $1`, [id])
  assert.deepEqual(
    rows.map(({ source, pending }) => [source, pending]),
    [['ssh', false]],
  )
}

/** A mark is seen at once, and taken by the next flush. */
async function assertTaken(pool: pg.Pool, id: string, periodEnd: Date): Promise<void> {
  const look = async (view: string) => {
    const { rows } = await pool.query(
      `SELECT date_trunc('milliseconds', last_used_at) AS at, pending FROM ${view} WHERE workspace_id = $1`,
      [id],
    )
    return rows
  }
  for (const view of ['workspace_activity', 'workspace_activity_by_source']) {
    assert.deepEqual(await look(view), [{ at: periodEnd, pending: true }], view)
  }
  assert.equal((await flush(pool)).flushed, 1)
  for (const view of ['workspace_activity', 'workspace_activity_by_source']) {
    assert.deepEqual(await look(view), [{ at: periodEnd, pending: false }], view)
  }
}

interface Times {
  median: number
  max: number
}

async function timed(action: () => Promise<void>): Promise<Times> {
  const times: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const started = performance.now()
    await action()
    times.push(performance.now() - started)
  }
  times.sort((one, other) => one - other)
  return { median: times[Math.floor(ROUNDS / 2)]!, max: times.at(-1)! }
}

function describe(times: Record<string, Times>): string {
  return Object.entries(times)
    .map(([what, { median, max }]) => `${what} ${median.toFixed(1)} ms (at most ${max.toFixed(1)})`)
    .join(', ')
}
