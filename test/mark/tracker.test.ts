import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { before, beforeEach, test } from 'node:test'
import pg from 'pg'
import type { Queryable } from '../../src/database/connection.ts'
import { MarksNotStoredError } from '../../src/errors.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { UsageTracker, type UsageTrackerStats } from '../../src/mark/tracker.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { closeMarkGate } from '../support/mark-gate.ts'
import { CENTURY, setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { runProgram } from '../support/process.ts'
import { noteStatements } from '../support/statements.ts'

let database: TestDatabase
let pool: TestDatabase['pool']

before(async () => {
  database = await createTestDatabase()
  pool = database.pool
})

beforeEach(async () => {
  // A period ends only in the tests that set a shorter one.
  await setPeriodLength(pool, CENTURY)
})

test('a tracker stores a mark soon, and drain resolves when it is stored', async () => {
  const id = randomUUID()
  await using tracker = new UsageTracker(pool)
  tracker.mark(id)
  await tracker.drain()
  assert.equal((await pendingOf([id])).length, 1)
  assertStats(tracker, { marked: 1, stored: 1 })
})

test('a mark has the source of its tracker, or else the application name of the connection', async () => {
  const id = randomUUID()
  await using tracker = new UsageTracker(pool, { source: 'ssh' })
  await using other = new UsageTracker(await database.connect({ application_name: 'ide-proxy' }))
  tracker.mark(id)
  other.mark(id)
  await Promise.all([tracker.drain(), other.drain()])
  assert.deepEqual((await pendingOf([id])).map(({ source }) => source).sort(), ['ide-proxy', 'ssh'])
})

test('a tracker stores its marks through Kysely as well', async () => {
  const id = randomUUID()
  await using tracker = new UsageTracker(database.kysely)
  tracker.mark(id)
  await tracker.drain()
  tracker.mark(id)
  assert.equal((await pendingOf([id])).length, 1)
  assertStats(tracker, { marked: 2, stored: 1, deduplicated: 1 })
})

test('a tracker needs no privilege but INSERT of two columns', async () => {
  const role = `${database.name}_marker`
  await pool.query(`CREATE ROLE ${role} LOGIN PASSWORD 'marker'`)
  await pool.query(`GRANT INSERT (workspace_id, source) ON pending_usage TO ${role}`)
  const marker = await database.connect({ ...as(role) })
  const id = randomUUID()
  const tracker = new UsageTracker(marker, { source: 'ssh' })
  const unnamed = new UsageTracker(marker)
  tracker.mark(id)
  unnamed.mark(id)
  await Promise.all([tracker.close(), unnamed.close()])
  assert.equal((await pendingOf([id])).length, 2)
  await marker.end()
  await pool.query(`DROP OWNED BY ${role}`)
  await pool.query(`DROP ROLE ${role}`)
})

test('a repeated mark within the period sends nothing', async () => {
  const id = randomUUID()
  const db = noteStatements(pool)
  await using tracker = new UsageTracker(db)
  tracker.mark(id)
  await tracker.drain()
  for (let repeat = 0; repeat < 1_000; repeat++) tracker.mark(id)
  await tracker.drain()
  assert.equal(db.sent.length, 1)
  assertStats(tracker, { marked: 1_001, stored: 1, deduplicated: 1_000 })
})

test('a repeated mark in another spelling of its id sends nothing, whichever spelling came first', async () => {
  const [one, other] = [randomUUID(), randomUUID()]
  const db = noteStatements(pool)
  await using tracker = new UsageTracker(db)
  tracker.mark(one)
  tracker.mark(one.toUpperCase())
  tracker.mark(other.toUpperCase())
  await tracker.drain()
  for (const id of [one.toUpperCase(), other, other.toUpperCase(), one]) tracker.mark(id)
  // 12,000 different spellings, which are too many to remember them all.
  for (let spelling = 0; spelling < 12_000; spelling++) tracker.mark(spell(one, spelling))
  await tracker.drain()
  assert.deepEqual(
    db.sent.map(({ ids }) => ids.toSorted()),
    [[one, other].sort()],
  )
  assertStats(tracker, { marked: 12_007, stored: 2, deduplicated: 12_005 })
})

test('a repeated mark allocates no memory, in upper and in lower case', async () => {
  const id = randomUUID()
  await using tracker = new UsageTracker(pool)
  tracker.mark(id)
  await tracker.drain()
  for (const spelling of [id, id.toUpperCase()]) {
    // If each mark allocated something, this would be at least 16 bytes times the marks, 3 MB.
    const allocated = () => {
      const before = process.memoryUsage().heapUsed
      for (let repeat = 0; repeat < 200_000; repeat++) tracker.mark(spelling)
      return process.memoryUsage().heapUsed - before
    }
    // The first rounds include the memory of the compiler. A round with a garbage collection is below zero.
    const rounds = Array.from({ length: 9 }, allocated)
    assert.ok(rounds.filter(bytes => Math.abs(bytes) < 1_000_000).length >= 5, `bytes: ${rounds}`)
  }
})

test('a repeated mark that comes while its statement is under way needs no statement of its own', async () => {
  const id = randomUUID()
  const db = noteStatements(pool)
  await using tracker = new UsageTracker(db)
  await using gate = await closeMarkGate(database)
  tracker.mark(id)
  await until('the statement is under way', () => db.sent.length === 1)
  tracker.mark(id)
  tracker.mark(id.toUpperCase())
  assertStats(tracker, { marked: 3, pending: 2, deduplicated: 1 })
  await gate.open()
  await tracker.drain()
  assert.equal(db.sent.length, 1)
  assertStats(tracker, { marked: 3, stored: 1, deduplicated: 2 })
})

test('a repeated mark is sent again if the period ended while its statement was under way', async () => {
  await setPeriodLength(pool, 1)
  const id = randomUUID()
  const db = noteStatements(pool)
  await using tracker = new UsageTracker(db, { source: 'ssh' })
  // A mark of the same workspace waits for this transaction, and its period is that of before the wait.
  const other = await database.connect()
  await untilPast(await nextPeriodEnd())
  await other.query('BEGIN')
  await markUsage(other, id, { source: 'ssh' })
  tracker.mark(id)
  await until('the statement waits', async () => (await waitingStatements()) === 1)
  await untilPast(await nextPeriodEnd())
  tracker.mark(id)
  const marked = new Date()
  await other.query('COMMIT')
  await tracker.drain()
  assert.equal(db.sent.length, 2)
  const [first, second] = await pendingOf([id])
  assert.ok(first!.period_end < marked && second!.period_end > marked)
})

test('a mark in the next period is stored again', async () => {
  await setPeriodLength(pool, 0.2)
  const id = randomUUID()
  await using tracker = new UsageTracker(pool)
  tracker.mark(id)
  await tracker.drain()
  const [first] = await pendingOf([id])
  await untilPast(first!.period_end)
  tracker.mark(id)
  await tracker.drain()
  assert.equal((await pendingOf([id])).length, 2)
})

test('a mark in the next period is stored again if the event loop was blocked over the end', async () => {
  // So long that the tracker does not look at the clock at each mark.
  await setPeriodLength(pool, 1)
  const id = randomUUID()
  const db = noteStatements(pool)
  await using tracker = new UsageTracker(db)
  const startOfPeriod = await nextPeriodEnd()
  await untilPast(startOfPeriod)
  tracker.mark(id)
  await tracker.drain()
  const periodEnd = await nextPeriodEnd()
  blockUntil(periodEnd.getTime() + 2)
  tracker.mark(id)
  const marked = new Date()
  await tracker.drain()
  assert.equal(db.sent.length, 2)
  const [last] = (await pendingOf([id])).toReversed()
  assert.ok(last!.period_end > marked)
})

test('a tracker sends the marks of one turn in batches of 5,000, in their order, two at a time while a whole one waits', async () => {
  const ids = Array.from({ length: 12_000 }, () => randomUUID())
  const db = noteStatements(pool)
  await using tracker = new UsageTracker(db)
  for (const id of ids) tracker.mark(id)
  await tracker.drain()
  assert.deepEqual(
    db.sent.map(({ ids }) => ids.toSorted()),
    [ids.slice(0, 5_000).sort(), ids.slice(5_000, 10_000).sort(), ids.slice(10_000).sort()],
  )
  const [first, second, third] = db.sent
  assert.ok(second!.sentAt <= first!.answeredAt!)
  // It is not full, so it waits for both.
  assert.ok(third!.sentAt >= Math.max(first!.answeredAt!, second!.answeredAt!))
  assert.equal((await pendingOf(ids)).length, ids.length)
  assertStats(tracker, { marked: 12_000, stored: 12_000 })
})

test('a tracker sends one batch at a time on a pool of one connection', async () => {
  const ids = Array.from({ length: 12_000 }, () => randomUUID())
  const one = new pg.Pool({ connectionString: database.connectionString, max: 1 })
  one.on('error', () => {})
  atEnd(() => one.end())
  const db = noteStatements(one)
  await using tracker = new UsageTracker(db)
  for (const id of ids) tracker.mark(id)
  await tracker.drain()
  assert.equal(db.sent.length, 3)
  for (const [place, statement] of db.sent.slice(1).entries()) {
    assert.ok(statement.sentAt >= db.sent[place]!.answeredAt!)
  }
})

test('all marks that come while a statement of the tracker is under way become one batch', async () => {
  const ids = Array.from({ length: 20 }, () => randomUUID())
  const db = noteStatements(pool)
  await using tracker = new UsageTracker(db)
  await using gate = await closeMarkGate(database)
  tracker.mark(ids[0]!)
  for (const id of ids.slice(1)) {
    await until('the first statement is under way', () => db.sent.length === 1)
    tracker.mark(id)
  }
  await gate.open()
  await tracker.drain()
  assert.deepEqual(
    db.sent.map(({ ids }) => ids),
    [[ids[0]], ids.slice(1)],
  )
})

test('drain of a tracker does not wait for later marks', async () => {
  const [sooner, later] = [randomUUID(), randomUUID()]
  const db = holdStatements()
  const tracker = new UsageTracker(db)
  tracker.mark(sooner)
  const drained = tracker.drain()
  await until('its statement is sent', () => db.held.length === 1)
  tracker.mark(later)
  db.held[0]!()
  await drained
  assertStats(tracker, { marked: 2, stored: 1, pending: 1 })
  await until('the next is sent', () => db.held.length === 2)
  db.held[1]!()
  await tracker.close()
})

test('drain of a tracker waits for all batches of earlier marks', async () => {
  const db = holdStatements()
  const tracker = new UsageTracker(db)
  for (let count = 0; count < 5_001; count++) tracker.mark(randomUUID())
  let drained = false
  const drain = tracker.drain().then(() => {
    drained = true
  })
  await until('the first batch is sent', () => db.held.length === 1)
  db.held[0]!()
  await until('the second batch is sent', () => db.held.length === 2)
  assert.equal(drained, false)
  db.held[1]!()
  await drain
  assertStats(tracker, { marked: 5_001, stored: 5_001 })
  await tracker.close()
})

test('drain of a tracker resolves at once if nothing is pending, also after close', async () => {
  const tracker = new UsageTracker(pool)
  await tracker.drain()
  await tracker.close()
  await tracker.drain()
})

test('a tracker loses no mark in an outage, and logs a warning, then errors, then the recovery', async () => {
  const ids = Array.from({ length: 3 }, () => randomUUID())
  const log = collectLog()
  await using tracker = new UsageTracker(pool, { logger: log.logger })
  const back = await withoutTable()
  tracker.mark(ids[0]!)
  await until('it has failed twice', () => log.lines.length === 2)
  tracker.mark(ids[1]!)
  tracker.mark(ids[2]!)
  tracker.mark(ids[2]!.toUpperCase())
  tracker.mark(ids[0]!)
  assertStats(tracker, { marked: 5, pending: 3, deduplicated: 2, failedAttempts: 2 })
  await back()
  await tracker.drain()

  assert.equal((await pendingOf(ids)).length, 3)
  const [first, second, ...rest] = log.lines
  const { err, retryInMs, ...counts } = first!.fields
  assert.equal((err as Error).name, 'NotMigratedError')
  assert.ok((retryInMs as number) >= 250 && (retryInMs as number) <= 500)
  assert.deepEqual(
    [first!.level, first!.message, counts],
    [
      'warn',
      'marks failed to be stored; they are kept and tried again',
      { consecutiveErrors: 1, pending: 1 },
    ],
  )
  assert.deepEqual(
    [second!.level, second!.message, second!.fields.consecutiveErrors],
    ['error', 'marks still fail to be stored; they are kept', 2],
  )
  const recovery = rest.pop()
  assert.deepEqual(
    [recovery!.level, recovery!.message, recovery!.fields],
    [
      'info',
      'marks are stored again',
      { carriedOver: 3, consecutiveErrors: tracker.stats().failedAttempts, dropped: 0 },
    ],
  )
})

test('a tracker marks a workspace again after an outage, because a crash may have emptied the table', async () => {
  const [stored, other] = [randomUUID(), randomUUID()]
  const log = collectLog()
  await using tracker = new UsageTracker(pool, { logger: log.logger })
  tracker.mark(stored)
  await tracker.drain()
  const back = await withoutTable()
  tracker.mark(other)
  await until('it has failed', () => log.lines.length > 0)
  await back()
  await pool.query('TRUNCATE pending_usage')
  tracker.mark(stored)
  await tracker.drain()
  assert.equal((await pendingOf([stored, other])).length, 2)
})

test('a tracker marks a workspace again after an idle connection broke, and the process continues', async () => {
  const own = new pg.Pool({ connectionString: database.connectionString, application_name: 'idle' })
  const log = collectLog()
  const tracker = new UsageTracker(own, { logger: log.logger })
  const id = randomUUID()
  tracker.mark(id)
  await tracker.drain()
  await terminate('idle')
  await until('the broken connection is logged', () => log.lines.length === 1)
  const [line] = log.lines
  assert.deepEqual([line!.level, line!.message], ['warn', 'an idle database connection broke'])
  assert.equal((line!.fields.err as { code: string }).code, '57P01')

  await pool.query('TRUNCATE pending_usage')
  tracker.mark(id)
  await tracker.close()
  assert.equal((await pendingOf([id])).length, 1)
  assert.equal(own.listenerCount('error'), 0)
  await own.end()
})

test('the marks of a statement whose connection was cut are stored by the next statement', async () => {
  const own = new pg.Pool({ connectionString: database.connectionString, application_name: 'cut' })
  const log = collectLog()
  const tracker = new UsageTracker(own, { logger: log.logger })
  const id = randomUUID()
  {
    await using _gate = await closeMarkGate(database)
    tracker.mark(id)
    await until('the statement waits', async () => (await waitingStatements()) === 1)
    await terminate('cut')
    await until('the failure is logged', () => log.find('marks failed').length === 1)
  }
  await tracker.close()
  assert.equal((await pendingOf([id])).length, 1)
  await own.end()
})

test('a tracker logs a refusal as an error at once, and stores its marks after the missing privilege is granted', async () => {
  const role = `${database.name}_refused`
  await pool.query(`CREATE ROLE ${role} LOGIN PASSWORD 'marker'`)
  const marker = await database.connect({ ...as(role) })
  const log = collectLog()
  const tracker = new UsageTracker(marker, { logger: log.logger })
  const id = randomUUID()
  tracker.mark(id)
  await until('it is refused', () => log.lines.length === 1)
  const { err, ...counts } = log.lines[0]!.fields
  assert.equal((err as { code: string }).code, '42501')
  assert.deepEqual(
    [log.lines[0]!.level, log.lines[0]!.message, counts],
    [
      'error',
      'the database refuses marks; they are kept and tried again',
      { consecutiveErrors: 1, pending: 1, retryInMs: 30_000 },
    ],
  )
  await pool.query(`GRANT INSERT (workspace_id, source) ON pending_usage TO ${role}`)
  assert.deepEqual(await tracker.close(), { left: 0 })
  assert.equal((await pendingOf([id])).length, 1)
  await marker.end()
  await pool.query(`DROP OWNED BY ${role}`)
  await pool.query(`DROP ROLE ${role}`)
})

test('workspaces above maxPending are dropped by a tracker, counted, and logged once', async () => {
  const ids = Array.from({ length: 5 }, () => randomUUID())
  const log = collectLog()
  await using tracker = new UsageTracker(pool, { logger: log.logger, maxPending: 3 })
  const back = await withoutTable()
  for (const id of ids) tracker.mark(id)
  for (const id of ids) tracker.mark(id.toUpperCase())
  await until('it has failed', () => log.find('marks failed').length === 1)
  for (const id of ids) tracker.mark(id)
  assertStats(tracker, { marked: 15, pending: 3, deduplicated: 6, dropped: 6, failedAttempts: 1 })
  await back()
  await tracker.drain()
  assert.deepEqual((await pendingOf(ids)).map(row => row.workspace_id).sort(), ids.slice(0, 3).sort())
  assert.deepEqual(
    log.find('maxPending').map(({ level, message, fields }) => [level, message, fields]),
    [
      [
        'error',
        'more than maxPending workspaces wait to be marked; further ones are lost until the database is back',
        { maxPending: 3, consecutiveErrors: 0 },
      ],
    ],
  )
  assert.equal(log.find('marks are stored again')[0]!.fields.dropped, 6)
})

test('close of a tracker stores all pending marks, and a second call waits for the first', async () => {
  const ids = Array.from({ length: 6_000 }, () => randomUUID())
  const tracker = new UsageTracker(pool)
  for (const id of ids) tracker.mark(id)
  assert.deepEqual(await Promise.all([tracker.close(), tracker.close({ timeoutMs: 0 })]), [
    { left: 0 },
    { left: 0 },
  ])
  assert.equal((await pendingOf(ids)).length, ids.length)
})

test('the end of an await using block closes the tracker', async () => {
  const id = randomUUID()
  {
    await using tracker = new UsageTracker(pool)
    tracker.mark(id)
  }
  assert.equal((await pendingOf([id])).length, 1)
})

test('marks after close of a tracker are ignored, and the first one is logged', async () => {
  const [stored, late] = [randomUUID(), randomUUID()]
  const log = collectLog()
  const tracker = new UsageTracker(pool, { logger: log.logger })
  tracker.mark(stored)
  const closed = tracker.close()
  tracker.mark(late)
  await closed
  for (const id of [late, stored, randomUUID()]) tracker.mark(id)
  await tracker.drain()
  assert.deepEqual(log.lines, [
    {
      level: 'error',
      message: 'developer error: mark called after close',
      fields: { workspaceId: late },
    },
  ])
  assertStats(tracker, { marked: 1, stored: 1 })
  assert.equal((await pendingOf([late])).length, 0)
})

test('close of a tracker gives up after its timeout, says how many marks are left, and rejects all drains', async () => {
  const ids = Array.from({ length: 7 }, () => randomUUID())
  const log = collectLog()
  const tracker = new UsageTracker(pool, { logger: log.logger })
  await using gate = await closeMarkGate(database)
  for (const id of ids) tracker.mark(id)
  const drained = assert.rejects(tracker.drain(), error => {
    assert.ok(error instanceof MarksNotStoredError)
    assert.deepEqual([error.left, error.timeoutMs], [7, 50])
    return true
  })
  assert.deepEqual(await tracker.close({ timeoutMs: 50 }), { left: 7 })
  await drained
  await assert.rejects(tracker.drain(), MarksNotStoredError)
  assert.deepEqual(log.lines, [
    {
      level: 'error',
      message: 'closed with marks that are not stored',
      fields: { left: 7, timeoutMs: 50 },
    },
  ])
  await gate.open()
  // The statement of the abandoned batch may still succeed, and then counts.
  await until('the late answer is counted', () => tracker.stats().stored === 7)
})

test('close of a tracker during an outage tries at once and often, and stores the marks if the outage ends in time', async () => {
  const id = randomUUID()
  const log = collectLog()
  const tracker = new UsageTracker(pool, { logger: log.logger })
  const back = await withoutTable()
  tracker.mark(id)
  await until('it pauses for longer than a second', () => tracker.stats().failedAttempts === 4)
  const closed = tracker.close()
  await until('it has tried again', () => tracker.stats().failedAttempts > 4)
  await back()
  assert.deepEqual(await closed, { left: 0 })
  assert.equal((await pendingOf([id])).length, 1)
  for (const line of log.find('marks still fail').slice(3)) {
    assert.ok((line.fields.retryInMs as number) <= 1_000)
  }
})

test('a program that forgets to close its tracker ends nevertheless', async () => {
  const { code, stdout, stderr } = await runProgram('test/programs/unclosed-tracker.ts', [], {
    env: { DATABASE_URL: database.connectionString },
    timeoutMs: 10_000,
  })
  assert.deepEqual([code, stderr], [0, ''])
  assert.equal(JSON.parse(stdout).stored, 1)
})

test('a tracker without a logger reports a lost mark on standard error', async () => {
  const { code, stderr } = await runProgram('test/programs/unclosed-tracker.ts', ['late'], {
    env: { DATABASE_URL: database.connectionString },
  })
  assert.equal(code, 0)
  const { level, name, msg } = JSON.parse(stderr)
  assert.deepEqual(
    { level, name, msg },
    { level: 50, name: 'workspace-usage', msg: 'developer error: mark called after close' },
  )
})

function assertStats(tracker: UsageTracker, expected: Partial<UsageTrackerStats>): void {
  const none = { marked: 0, deduplicated: 0, stored: 0, pending: 0, dropped: 0, failedAttempts: 0 }
  assert.deepEqual(tracker.stats(), { ...none, ...expected })
}

interface PendingRow {
  workspace_id: string
  period_end: Date
  source: string
}

async function pendingOf(ids: string[]): Promise<PendingRow[]> {
  const { rows } = await pool.query(
    'SELECT * FROM pending_usage WHERE workspace_id = ANY ($1) ORDER BY period_end',
    [ids],
  )
  return rows
}

/** Credentials of another role for a connection to the test's database. */
function as(role: string): pg.ClientConfig {
  const url = new URL(database.connectionString)
  url.username = role
  url.password = 'marker'
  return { connectionString: url.href }
}

/** One of the many spellings of an id. */
function spell(id: string, number: number): string {
  let bits = number
  return id.replace(/[a-f]/g, letter => {
    const upper = bits & 1
    bits >>= 1
    return upper ? letter.toUpperCase() : letter
  })
}

/** A connection on which each statement waits until it is let go. */
function holdStatements(): Queryable & { held: (() => void)[] } {
  const held: (() => void)[] = []
  return {
    held,
    async query(text, values) {
      await new Promise<void>(resolve => held.push(resolve))
      return pool.query(text, values)
    },
  }
}

async function waitingStatements(): Promise<number> {
  const { rows } = await pool.query(
    `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
  )
  return rows.length
}

/** Renames the table, so that marks fail. The returned function renames it back. */
async function withoutTable(): Promise<() => Promise<unknown>> {
  await pool.query('ALTER TABLE pending_usage RENAME TO pending_usage_elsewhere')
  const back = () => pool.query('ALTER TABLE IF EXISTS pending_usage_elsewhere RENAME TO pending_usage')
  atEnd(back)
  return back
}

async function terminate(application: string): Promise<void> {
  await pool.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1', [
    application,
  ])
}

async function nextPeriodEnd(): Promise<Date> {
  const { rows } = await pool.query('SELECT usage_period_end() AS period_end')
  return rows[0].period_end
}

async function untilPast(instant: Date): Promise<void> {
  await until(`${instant.toISOString()} has passed`, () => Date.now() > instant.getTime())
}

function blockUntil(instant: number): void {
  while (Date.now() < instant);
}
