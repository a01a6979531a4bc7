import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { explainUsage } from '../../src/activity/explain.ts'
import { usageHistory } from '../../src/activity/history.ts'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { setPeriodLength } from '../support/period.ts'
import { flushAsReleaseCandidate } from '../support/release-candidate.ts'
import { createWorkspaces } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'

/*
 * After an outage batches arrive newest first, some of them again and again because their workspaces are held, and
 * perhaps a worker of an older release takes a part of them. History and "since" come out the same in any order.
 */

const database = await createTestDatabase()
const { pool } = database
const IDS = await createWorkspaces(pool, 3)
const oldWorker = await database.connect()

/** A few seconds before the first use that is told as going on. So no run takes so long that it is over. */
const NOW = Date.now() - 60_000

/** How the batch of a mark is flushed. */
type Way = 'flushed' | 'held' | 'by an old worker'

interface Mark {
  workspaceId: string
  source: string
  /** The end of the period, in milliseconds. */
  end: number
  /** The beginning, if it is a use until a time that has come. */
  from: number | null
  way: Way
}

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

/** Some are recent, some at the ends of slots and days, and some follow each other closely. */
const ago = fc.oneof(
  fc.integer({ min: 0, max: 40 }).map(minutes => minutes * MINUTE),
  fc.integer({ min: 0, max: 6 }).map(slots => (NOW % (5 * MINUTE)) + slots * 5 * MINUTE),
  fc.integer({ min: -3, max: 3 }).map(halves => (NOW % (24 * HOUR)) + halves * 30 * SECOND),
  fc.integer({ min: 0, max: 3 * 24 * HOUR }),
)
const mark: fc.Arbitrary<Mark> = fc
  .record({
    workspaceId: fc.constantFrom(...IDS),
    source: fc.constantFrom('ssh', 'web', 'cron'),
    ago: ago.filter(ms => ms >= 0),
    length: fc.option(fc.integer({ min: 1, max: 30 * HOUR }), { freq: 4 }),
    way: fc.constantFrom<Way>('flushed', 'flushed', 'held', 'by an old worker'),
  })
  .map(({ ago, length, way, ...rest }) => ({
    ...rest,
    end: NOW - ago,
    from: length === null ? null : NOW - ago - length,
    // An older release knows no use until a time.
    way: length !== null && way === 'by an old worker' ? 'flushed' : way,
  }))

/** Two marks with one key are one row: which of their beginnings stays depends on the batch. */
const keyOf = ({ workspaceId, source, end }: Mark) => [workspaceId, source, end].join(' ')

type Order = (marks: readonly Mark[]) => Mark[]

const ORDERS: Record<string, Order> = {
  'the newest first': marks => marks.toSorted((one, other) => other.end - one.end),
  'the oldest first': marks => marks.toSorted((one, other) => one.end - other.end),
}

async function store(marks: readonly Mark[]): Promise<void> {
  const sent = marks.map(({ end, from, ...rest }) => ({
    ...rest,
    end: new Date(end),
    from: from === null ? null : new Date(from),
  }))
  const given = `FROM json_populate_recordset(NULL::given, $1)`
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT "end", "workspaceId", source ${given} WHERE "from" IS NULL ON CONFLICT DO NOTHING`,
    [JSON.stringify(sent)],
  )
  await pool.query(
    `INSERT INTO set_aside_usage (period_end, workspace_id, source, reason, next_attempt_at, used_from)
    SELECT "end", "workspaceId", source, 'until', "end", "from" ${given} WHERE "from" IS NOT NULL ON CONFLICT DO NOTHING`,
    [JSON.stringify(sent)],
  )
}

async function flushBatch(marks: readonly Mark[], way: Way, oldestFirst: boolean): Promise<void> {
  await store(marks)
  if (way === 'by an old worker') await flushAsReleaseCandidate(oldWorker)
  if (way === 'held') {
    await using holder = await openTransaction(database)
    await holder.client.query('SELECT FROM workspaces FOR UPDATE')
    await drain(pool)
  }
  const batchSize = 1 + (marks.length >> 1)
  await flush(pool, { batchSize, oldestFirst })
  await drain(pool, { batchSize })
}

/** Flushes the marks in batches of one way each, and returns all that is kept of them. */
async function kept(marks: readonly Mark[], sizes: readonly number[], oldestFirst: boolean) {
  await pool.query('TRUNCATE pending_usage, set_aside_usage, workspace_usage, source_usage')
  await pool.query('UPDATE workspaces SET last_used_at = NULL')
  let batch: Mark[] = []
  let batches = 0
  for (const [place, mark] of marks.entries()) {
    batch.push(mark)
    const isLast = marks[place + 1]?.way !== mark.way
    if (!isLast && batch.length < sizes[batches % sizes.length]!) continue
    await flushBatch(batch, mark.way, oldestFirst)
    batch = []
    batches++
  }
  const { rows } = await pool.query('SELECT * FROM workspace_usage_day ORDER BY workspace_id, source, day')
  const answers = []
  for (const id of IDS) {
    const { sources } = await usageHistory(pool, id, { days: 10, breakSeconds: 900 })
    const explained = await explainUsage(pool, id)
    answers.push([sources, explained.lastUsedAt, explained.sources])
  }
  return { rows, answers }
}

test('history, intervals and since are the same in whatever order, batches and ways marks are flushed', async () => {
  await pool.query(
    `CREATE TYPE given AS ("workspaceId" uuid, source text, "end" timestamptz, "from" timestamptz)`,
  )
  const cases = fc.record({
    marks: fc.uniqueArray(mark, { minLength: 1, maxLength: 25, selector: keyOf }),
    sizes: fc.array(fc.integer({ min: 1, max: 10 }), { minLength: 1, maxLength: 5 }),
    seeds: fc.array(fc.nat(), { minLength: 25, maxLength: 25 }),
    periodSeconds: fc.constantFrom(30, 30, 900),
    oldestFirst: fc.boolean(),
  })
  await fc.assert(
    fc.asyncProperty(cases, async ({ marks, sizes, seeds, periodSeconds, oldestFirst }) => {
      await setPeriodLength(pool, periodSeconds)
      const random: Order = marks =>
        marks
          .map((mark, place) => ({ mark, seed: seeds[place]! }))
          .toSorted((one, other) => one.seed - other.seed)
          .map(({ mark }) => mark)
      const expected = await kept(marks, [marks.length], false)
      for (const [name, order] of Object.entries({ ...ORDERS, 'in random order': random }))
        assert.deepEqual(await kept(order(marks), sizes, oldestFirst), expected, name)
    }),
    // The limit ends the search for a smaller case.
    { numRuns: 5, interruptAfterTimeLimit: 40_000 },
  )
})

test('marks that an old worker flushes are in no history, and still the last use by their source', async () => {
  await setPeriodLength(pool, 30)
  const [workspaceId] = IDS as [string]
  const base = { workspaceId, source: 'ssh', from: null }
  const marks: Mark[] = [
    { ...base, end: NOW - 10 * MINUTE, way: 'flushed' },
    { ...base, end: NOW, way: 'by an old worker' },
  ]
  const { rows } = await kept(marks, [1], false)
  assert.deepEqual(
    rows.map(({ last_used_at }) => last_used_at.getTime()),
    [NOW - 10 * MINUTE],
  )
  const { sources } = await explainUsage(pool, workspaceId)
  assert.equal(sources[0]!.lastUsedAt.getTime(), NOW)
  assert.equal((await flush(pool)).flushed, 0)
})
