import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { before, test } from 'node:test'
import pg from 'pg'
import type { Queryable } from '../../src/database/connection.ts'
import { type MarkResult, markUsage } from '../../src/mark/mark.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { untilBlocked } from '../support/locks.ts'
import { closeMarkGate } from '../support/mark-gate.ts'
import { CENTURY, setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'

let database: TestDatabase
let pool: TestDatabase['pool']

before(async () => {
  database = await createTestDatabase()
  pool = database.pool
  // A period ends only in the tests that set a shorter one.
  await setPeriodLength(pool, CENTURY)
})

test('marks of one workspace within a period are one row, however many connections make them', async () => {
  const id = randomUUID()
  await using gate = await closeMarkGate(database)
  const clients = await Promise.all(Array.from({ length: 50 }, () => database.connect()))
  const marks = clients.map(client => markUsage(client, id))
  for (const { processID } of clients) await untilBlocked(pool, processID)
  await gate.open()

  const results = await Promise.all(marks)
  assert.equal(results.filter(({ stored }) => stored === 1).length, 1)
  assert.equal(results.filter(({ stored }) => stored === 0).length, 49)
  assert.equal((await pendingOf(id)).length, 1)
  await Promise.all(clients.map(client => client.end()))
})

test('marks of one workspace from two sources are two rows', async () => {
  const id = randomUUID()
  assert.deepEqual(await markUsage(pool, id, { source: 'ssh' }), { marked: 1, stored: 1 })
  assert.deepEqual(await markUsage(pool, id, { source: 'vscode' }), { marked: 1, stored: 1 })
  assert.deepEqual(await markUsage(pool, id, { source: 'ssh' }), { marked: 1, stored: 0 })
  assert.deepEqual(await sourcesOf(id), ['ssh', 'vscode'])
})

test('the source of a mark is the application name of its connection', async () => {
  const id = randomUUID()
  await markUsage(await database.connect({ application_name: 'ide-proxy' }), id)
  assert.deepEqual(await sourcesOf(id), ['ide-proxy'])
})

test('the source of a mark is "unknown" if the connection has no application name', async () => {
  const id = randomUUID()
  const client = await database.connect()
  await client.query(`SET application_name = ''`)
  await markUsage(client, id)
  assert.deepEqual(await sourcesOf(id), ['unknown'])
})

test('markUsage counts distinct workspaces as marked, and new rows as stored', async () => {
  const [one, two, three] = [randomUUID(), randomUUID(), randomUUID()]
  assert.deepEqual(await markUsage(pool, [one, two, one.toUpperCase()]), { marked: 2, stored: 2 })
  assert.deepEqual(await markUsage(pool, [two, three]), { marked: 2, stored: 1 })
})

test('markUsage sends nothing if the list of ids is empty', async () => {
  const ended = new pg.Pool()
  await ended.end()
  assert.deepEqual(await markUsage(ended, []), { marked: 0, stored: 0 })
})

test('a mark by a client inside a transaction is stored with the commit', async () => {
  const id = randomUUID()
  const client = await database.connect()
  await client.query('BEGIN')
  assert.deepEqual(await markUsage(client, id), { marked: 1, stored: 1 })
  assert.equal((await pendingOf(id)).length, 0)
  await client.query('COMMIT')
  assert.equal((await pendingOf(id)).length, 1)
})

test('a mark by a client inside a transaction is taken back with the rollback', async () => {
  const id = randomUUID()
  const client = await database.connect()
  await client.query('BEGIN')
  assert.deepEqual(await markUsage(client, id), { marked: 1, stored: 1 })
  await client.query('ROLLBACK')
  assert.equal((await pendingOf(id)).length, 0)
})

test('markUsage stores a mark through a Kysely instance, and counts it', async () => {
  const id = randomUUID()
  assert.deepEqual(await markUsage(database.kysely, [id]), { marked: 1, stored: 1 })
  assert.deepEqual(await markUsage(database.kysely, [id]), { marked: 1, stored: 0 })
  assert.equal((await pendingOf(id)).length, 1)
})

test('a mark inside a Kysely transaction is stored with the commit', async () => {
  const id = randomUUID()
  await database.kysely.transaction().execute(async transaction => {
    assert.deepEqual(await markUsage(transaction, id, { source: 'ssh' }), { marked: 1, stored: 1 })
    assert.equal((await pendingOf(id)).length, 0)
  })
  assert.deepEqual(await sourcesOf(id), ['ssh'])
})

test('any language can mark with one INSERT, and its role needs no other privilege', async () => {
  const id = randomUUID()
  const role = pg.escapeIdentifier(`${database.name}_marker`)
  const marker = await database.connect()
  await marker.query(`CREATE ROLE ${role}; GRANT INSERT (workspace_id, source) ON pending_usage TO ${role}`)
  try {
    await marker.query(`SET ROLE ${role}`)
    const insert = 'INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING'
    assert.equal((await marker.query(insert, [id])).rowCount, 1)
    assert.equal((await marker.query(insert, [id])).rowCount, 0)
    assert.deepEqual(await markUsage(marker, id), { marked: 1, stored: 0 })
    assert.deepEqual(await markUsage(marker, id, { source: 'ssh' }), { marked: 1, stored: 1 })

    const denied = { message: 'permission denied for table pending_usage' }
    await assert.rejects(marker.query('SELECT FROM pending_usage'), denied)
    await assert.rejects(marker.query('DELETE FROM pending_usage'), denied)
    await assert.rejects(
      marker.query(`INSERT INTO pending_usage (period_end, workspace_id) VALUES ('infinity', $1)`, [id]),
      denied,
    )
  } finally {
    await marker.query(`RESET ROLE; DROP OWNED BY ${role}; DROP ROLE ${role}`)
  }
  assert.equal((await pendingOf(id)).length, 2)
})

test('two markUsage calls with the same workspaces in opposite order never deadlock', async () => {
  const [one, other] = [await database.connect(), await database.connect()]
  for (let round = 0; round < 5; round++) {
    const ids = Array.from({ length: 5_000 }, () => randomUUID())
    await using gate = await closeMarkGate(database)
    const marks = [markUsage(one, ids), markUsage(other, ids.toReversed())]
    for (const { processID } of [one, other]) await untilBlocked(pool, processID)
    await gate.open()

    const [first, second] = await Promise.all(marks)
    assert.equal(first!.stored + second!.stored, ids.length)
  }
})

test('a second mark of a workspace waits until the first commits, and then stores nothing', async () => {
  const id = randomUUID()
  const { first, second } = await markTwice(id)
  await first.query('COMMIT')
  assert.deepEqual(await second, { marked: 1, stored: 0 })
})

test('a second mark of a workspace is stored if the first one is rolled back', async () => {
  const id = randomUUID()
  const { first, second } = await markTwice(id)
  await first.query('ROLLBACK')
  assert.deepEqual(await second, { marked: 1, stored: 1 })
  assert.equal((await pendingOf(id)).length, 1)
})

test('the period of a mark ends after the mark, even if another period ends at that instant', async () => {
  await setPeriodLength(pool, 30)
  const { rows } = await pool.query(
    `SELECT pg_get_function_sqlbody('usage_period_end()'::regprocedure) AS body`,
  )
  const periodEndAt = async (instant: string) => {
    const body = rows[0].body.replace('RETURN', '').replace('clock_timestamp()', '$1::timestamptz')
    return (await pool.query(`SELECT (${body}) AS period_end`, [instant])).rows[0].period_end.toISOString()
  }
  assert.equal(await periodEndAt('2030-05-05T12:00:29.999999Z'), '2030-05-05T12:00:30.000Z')
  assert.equal(await periodEndAt('2030-05-05T12:00:30.000000Z'), '2030-05-05T12:01:00.000Z')
  assert.equal(await periodEndAt('2030-05-05T12:00:30.000001Z'), '2030-05-05T12:01:00.000Z')
})

test('a workspace that is marked in two periods has two rows', async () => {
  await setPeriodLength(pool, 0.1)
  const id = randomUUID()
  await markUsage(pool, id)
  await untilPeriodEnded(pool, id)
  assert.deepEqual(await markUsage(pool, id), { marked: 1, stored: 1 })
  assert.equal((await pendingOf(id)).length, 2)
})

test('a mark falls in the period of its statement, also in a transaction that began in an earlier period', async () => {
  await setPeriodLength(pool, 0.1)
  const id = randomUUID()
  const client = await database.connect()
  await client.query('BEGIN')
  await markUsage(client, id)
  await untilPeriodEnded(client, id)
  const { rows } = await client.query('SELECT clock_timestamp() AS now')
  await markUsage(client, id)
  await client.query('COMMIT')

  const [, second] = await pendingOf(id)
  assert.ok(second && second.period_end > rows[0].now)
})

/** Marks a workspace twice. The second mark waits for the transaction of the first. */
async function markTwice(id: string): Promise<{ first: pg.Client; second: Promise<MarkResult> }> {
  const [first, other] = [await database.connect(), await database.connect()]
  await first.query('BEGIN')
  await markUsage(first, id)
  const second = markUsage(other, id)
  assert.deepEqual(await untilBlocked(pool, other.processID), [first.processID])
  return { first, second }
}

async function pendingOf(id: string): Promise<{ period_end: Date; source: string }[]> {
  const text =
    'SELECT period_end, source FROM pending_usage WHERE workspace_id = $1 ORDER BY source, period_end'
  return (await pool.query(text, [id])).rows
}

async function untilPeriodEnded(db: Queryable, id: string): Promise<void> {
  const text = 'SELECT period_end <= clock_timestamp() AS ended FROM pending_usage WHERE workspace_id = $1'
  await until('the period of the mark has ended', async () => {
    const { rows } = await db.query(text, [id])
    return (rows[0] as { ended: boolean }).ended
  })
}

async function sourcesOf(id: string): Promise<string[]> {
  return (await pendingOf(id)).map(({ source }) => source)
}
