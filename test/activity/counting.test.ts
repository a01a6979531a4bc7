import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { countSource, ignoreSource, retireSource } from '../../src/activity/counting.ts'
import { explainUsage } from '../../src/activity/explain.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { silentSources, usageSources } from '../../src/activity/sources.ts'
import { SourceIgnoredError, UnknownSourceError } from '../../src/errors.ts'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { reapIdle } from '../../src/reaper/reap-idle.ts'
import { createTestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces } from '../support/seed.ts'

const { pool } = await createTestDatabase()

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, source_usage, workspaces CASCADE')
})

/** In the middle of a slot of five minutes. */
const NOW = Math.floor(Date.now() / 300_000) * 300_000 - 180_000

/** The end of a period that ended so many minutes ago, or a few more. */
function minutesAgo(minutes: number): Date {
  return new Date(NOW - minutes * 60_000)
}

/** Marks as if the period had ended then, and flushes. */
async function use(id: string, source: string, at: Date, options: { sources?: boolean } = {}): Promise<void> {
  await mark(id, source, at)
  await flush(pool, options)
}

async function mark(id: string, source: string, at: Date): Promise<void> {
  await pool.query('INSERT INTO pending_usage (period_end, workspace_id, source) VALUES ($1, $2, $3)', [
    at,
    id,
    source,
  ])
}

async function seen(id: string) {
  const { rows } = await pool.query(
    'SELECT last_used_at AS at, source, pending FROM workspace_activity WHERE workspace_id = $1',
    [id],
  )
  return rows[0] as { at: Date | null; source: string | null; pending: boolean }
}

async function stored(id: string): Promise<Date | null> {
  const { rows } = await pool.query('SELECT last_used_at FROM workspaces WHERE id = $1', [id])
  return rows[0].last_used_at
}

test('a source that does not count is left out of the view at once: what is pending, and what was flushed', async () => {
  const [pending, flushed] = (await createWorkspaces(pool, 2)) as [string, string]
  for (const id of [pending, flushed]) await use(id, 'ssh', minutesAgo(600))
  await use(flushed, 'poller', minutesAgo(30))
  await mark(pending, 'poller', minutesAgo(30))
  assert.deepEqual(await ignoreSource(pool, 'poller'), { already: false })
  const last = { at: minutesAgo(600), source: 'ssh', pending: false }
  assert.deepEqual([await seen(pending), await seen(flushed)], [last, last])
  assert.deepEqual(await stored(flushed), minutesAgo(30))
  assert.deepEqual(await ignoreSource(pool, 'poller'), { already: true })
})

test('from the next flush on last_used_at does not move, and the use is on record', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  await use(id, 'ssh', minutesAgo(600))
  await mark(id, 'poller', minutesAgo(30))
  await ignoreSource(pool, 'poller')
  const { flushed, updated } = await flush(pool)
  assert.deepEqual([flushed, updated], [1, 0])
  assert.deepEqual(await stored(id), minutesAgo(600))
  const { sources, lastUsedAt } = (await explainUsage(pool, id))!
  assert.deepEqual(lastUsedAt, minutesAgo(600))
  assert.deepEqual(
    sources.map(({ source, lastUsedAt }) => [source, lastUsedAt]),
    [
      ['poller', minutesAgo(30)],
      ['ssh', minutesAgo(600)],
    ],
  )
  const { rows } = await pool.query(
    'SELECT source, counts FROM workspace_activity_by_source WHERE workspace_id = $1 ORDER BY source',
    [id],
  )
  assert.deepEqual(rows, [
    { source: 'poller', counts: false },
    { source: 'ssh', counts: true },
  ])
})

test('a workspace that only sources that do not count have used was never used', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  await use(id, 'poller', minutesAgo(700))
  await use(id, 'dashboard', minutesAgo(30))
  await ignoreSource(pool, 'poller')
  assert.deepEqual(await seen(id), { at: minutesAgo(30), source: 'dashboard', pending: false })
  await ignoreSource(pool, 'dashboard')
  assert.deepEqual(await seen(id), { at: null, source: null, pending: false })
})

test('a workspace is never shown as older than the last use by a source that counts', async () => {
  const moments = [600, 601, 598, 595, 605, 20, 15].map(minutes => minutesAgo(minutes))
  const orders = moments.flatMap((ssh, n) => moments.slice(n).map(poller => [ssh, poller] as const))
  const cases = [...orders, ...orders.map(([ssh, poller]) => [poller, ssh] as const)]
  const ids = await createWorkspaces(pool, cases.length * 2)
  for (const [place, [ssh, poller]] of cases.entries()) {
    await mark(ids[place]!, 'ssh', ssh)
    await mark(ids[place]!, 'poller', poller)
    // In two flushes, in the other order.
    await mark(ids[cases.length + place]!, 'poller', poller)
  }
  await flush(pool)
  for (const [place, [ssh]] of cases.entries()) await mark(ids[cases.length + place]!, 'ssh', ssh)
  await flush(pool)
  await ignoreSource(pool, 'poller')
  for (const [place, id] of ids.entries()) {
    const [ssh, poller] = cases[place % cases.length]!
    const { at } = await seen(id)
    assert.ok(at! >= ssh, `ssh ${ssh}, poller ${poller}, seen ${at}`)
    // Beside a use within the same five minutes nobody knows more.
    const exact = Math.floor((Number(poller) - 1) / 300_000) !== Math.floor((Number(ssh) - 1) / 300_000)
    if (exact || poller <= ssh) assert.deepEqual(at, ssh, `ssh ${ssh}, poller ${poller}`)
  }
})

test('what something else than a flush wrote is not mistaken for a source that does not count', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  for (let minutes = 40; minutes >= 30; minutes -= 1) await use(id, 'poller', minutesAgo(minutes))
  await ignoreSource(pool, 'poller')
  const written = new Date(Number(minutesAgo(35)) + 123)
  await pool.query('UPDATE workspaces SET last_used_at = $1 WHERE id = $2', [written, id])
  assert.deepEqual((await seen(id)).at, written)
})

test('rows of before the history count by their last use', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  await pool.query(
    `WITH used AS (UPDATE workspaces SET last_used_at = $1 WHERE id = $2 RETURNING id, last_used_at)
    INSERT INTO workspace_usage (workspace_id, source, last_used_at)
    SELECT id, 'poller', last_used_at FROM used
    UNION ALL SELECT id, 'ssh', last_used_at - interval '2 days' FROM used`,
    [minutesAgo(30), id],
  )
  await mark(id, 'poller', minutesAgo(29))
  await ignoreSource(pool, 'poller')
  assert.deepEqual(await seen(id), { at: minutesAgo(30 + 2 * 1_440), source: 'ssh', pending: false })
})

test('without the history, only what comes after the change is left out', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  await use(id, 'poller', minutesAgo(30), { sources: false })
  await mark(id, 'poller', minutesAgo(20))
  await ignoreSource(pool, 'poller')
  assert.deepEqual(await seen(id), { at: minutesAgo(30), source: null, pending: false })
  await flush(pool, { sources: false })
  assert.deepEqual(await stored(id), minutesAgo(30))
})

test('a source that counts again counts with what it used meanwhile: in the view at once, then in last_used_at', async () => {
  const [id, other] = (await createWorkspaces(pool, 2)) as [string, string]
  await use(id, 'ssh', minutesAgo(600))
  await mark(id, 'poller', minutesAgo(500))
  await ignoreSource(pool, 'poller')
  await flush(pool)
  await use(id, 'poller', minutesAgo(30))
  await use(other, 'poller', minutesAgo(40))
  await use(other, 'ssh', minutesAgo(20))
  assert.deepEqual(await countSource(pool, 'poller'), { already: false, restored: 1 })
  assert.deepEqual(await seen(id), { at: minutesAgo(30), source: 'poller', pending: true })
  assert.deepEqual(await seen(other), { at: minutesAgo(20), source: 'ssh', pending: false })
  await flush(pool)
  assert.deepEqual([await stored(id), await stored(other)], [minutesAgo(30), minutesAgo(20)])
  assert.deepEqual(await seen(id), { at: minutesAgo(30), source: 'poller', pending: false })
  assert.deepEqual(await countSource(pool, 'poller'), { already: true, restored: 0 })
})

test('more workspaces than one step are put right, and a crash in between is mended by a repetition', async () => {
  await createWorkspaces(pool, 20_001)
  await pool.query(`
    INSERT INTO source_usage VALUES ('poller', now() - interval '1 day', now(), false);
    INSERT INTO workspace_usage_day (workspace_id, source, last_used_at, day, first_used_at, slots)
    SELECT id, 'poller', date_trunc('day', now()) - interval '1 hour', current_date - 1, date_trunc('day', now()) - interval '1 hour', (1)::bit(288)
    FROM workspaces`)
  assert.deepEqual(await countSource(pool, 'poller'), { already: false, restored: 20_001 })
  await pool.query('TRUNCATE set_aside_usage')
  assert.deepEqual(await countSource(pool, 'poller'), { already: true, restored: 20_001 })
  await drain(pool)
  const { rows } = await pool.query('SELECT count(*)::int FROM workspaces WHERE last_used_at IS NULL')
  assert.equal(rows[0].count, 0)
})

test('a flush that runs while a source begins to count again is waited for, so that its marks count', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  await mark(id, 'poller', minutesAgo(30))
  await ignoreSource(pool, 'poller')
  const client = await pool.connect()
  await client.query('BEGIN')
  await flush(client)
  const counting = countSource(pool, 'poller')
  await until('it waits for the flush', async () => {
    const { rows } = await pool.query(
      `SELECT FROM pg_stat_activity WHERE query LIKE '%pg\\_locks%' AND pid <> pg_backend_pid() AND datname = current_database()`,
    )
    return rows.length > 0
  })
  await client.query('COMMIT')
  client.release()
  assert.equal((await counting).restored, 1)
  assert.deepEqual((await seen(id)).at, minutesAgo(30))
})

test('a flush that runs while a source is ignored does not keep that waiting, and the view is right afterwards', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  await use(id, 'ssh', minutesAgo(600))
  await use(id, 'poller', minutesAgo(90))
  await mark(id, 'poller', minutesAgo(30))
  const client = await pool.connect()
  await client.query('BEGIN')
  // It locks the workspace, and a flush notes the source in its row.
  const flushing = flush(client)
  await flushing
  const ignoring = ignoreSource(pool, 'poller')
  await client.query('COMMIT')
  client.release()
  await ignoring
  assert.deepEqual((await seen(id)).at, minutesAgo(600))
  await use(id, 'poller', minutesAgo(20))
  assert.deepEqual(await stored(id), minutesAgo(30))
  assert.deepEqual((await seen(id)).at, minutesAgo(600))
})

test('idle lists a workspace that only a source that does not count still uses, and the reaper stops it', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  await use(id, 'ssh', minutesAgo(6_000))
  await use(id, 'poller', minutesAgo(30))
  await pool.query('DELETE FROM pending_usage_reset')
  const idle = async () => {
    const found: string[] = []
    for await (const { workspaceId } of idleWorkspaces(pool, { idleForSeconds: 86_400 }))
      found.push(workspaceId)
    return found
  }
  assert.deepEqual(await idle(), [])
  await ignoreSource(pool, 'poller')
  await mark(id, 'poller', new Date(Date.now() - 1_000))
  assert.deepEqual(await idle(), [id])
  const stopped: string[] = []
  const result = await reapIdle({
    pool,
    idleFor: '1d',
    maxPerMinute: 60_000,
    stop: (_, stoppedId) => stopped.push(stoppedId),
  })
  assert.deepEqual(stopped, [id], JSON.stringify(result))
})

test('sources tell whether they count, and how many workspaces they used in the last day', async () => {
  const ids = await createWorkspaces(pool, 4)
  await use(ids[0]!, 'ssh', minutesAgo(30))
  await mark(ids[0]!, 'ssh', minutesAgo(10))
  await mark(ids[1]!, 'ssh', minutesAgo(10))
  await use(ids[2]!, 'ssh', minutesAgo(25 * 60))
  await use(ids[3]!, 'poller', minutesAgo(23 * 60))
  await mark(ids[3]!, 'new', minutesAgo(5))
  await ignoreSource(pool, 'poller')
  const sources = await usageSources(pool)
  assert.deepEqual(
    sources.map(({ source, counts, workspacesLastDay }) => [source, counts, workspacesLastDay]),
    [
      ['new', true, 1],
      ['ssh', true, 2],
      ['poller', false, 1],
    ],
  )
})

test('a source of which only marks are pending can be ignored, whatever its name', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  const names = ["it's", 'ß', 'SS', 'a\nb', '%_', 'é', 'e\u0301', '{"a"}', ' ', '-x', 'null', 'ignored']
  for (const name of names) await mark(id, name, minutesAgo(30))
  await mark(id, 'ss', minutesAgo(60))
  for (const name of names) assert.deepEqual(await ignoreSource(pool, name), { already: false }, name)
  assert.deepEqual(await seen(id), { at: minutesAgo(60), source: 'ss', pending: true })
  await flush(pool)
  assert.deepEqual(await seen(id), { at: minutesAgo(60), source: 'ss', pending: false })
  for (const name of names) assert.equal((await countSource(pool, name)).already, false, name)
  assert.equal((await seen(id)).at?.getTime(), minutesAgo(30).getTime())
})

test('an unknown source is an error that names those that are like it', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  for (const name of ['ssh', 'sshd', 'vscode']) await mark(id, name, minutesAgo(1))
  for (const change of [ignoreSource, countSource]) {
    await assert.rejects(change(pool, 'shh'), error => {
      assert.ok(error instanceof UnknownSourceError)
      assert.deepEqual([error.source, error.nearest], ['shh', ['ssh', 'sshd']])
      return true
    })
    await assert.rejects(change(pool, 'ssh\0'), UnknownSourceError)
    await assert.rejects(change(pool, ''), UnknownSourceError)
    await assert.rejects(change(pool, 7 as never), /source is 7; allowed: the name of a source, a text/)
  }
})

test('nobody is warned of the silence of a source that does not count, and it can not be retired', async () => {
  await pool.query(
    `INSERT INTO source_usage VALUES ('poller', now() - interval '9 days', now() - interval '2 hours')`,
  )
  assert.equal((await silentSources(pool, 3_600)).length, 1)
  await ignoreSource(pool, 'poller')
  assert.equal((await silentSources(pool, 3_600)).length, 0)
  await assert.rejects(retireSource(pool, 'poller'), SourceIgnoredError)
  await countSource(pool, 'poller')
  assert.equal(await retireSource(pool, 'poller'), true)
  assert.equal(await retireSource(pool, 'poller'), false)
})
