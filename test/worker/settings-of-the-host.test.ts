import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { grantPrivileges } from '../../src/access/grant.ts'
import { lastFlush } from '../../src/activity/last-flush.ts'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { flushedByJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { onPostgres15, POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

test('no flush fails in a database whose transactions are serializable while its host updates the same rows', async () => {
  await flushesUnderSerializable(await createTestDatabase())
})

test('no flush fails on PostgreSQL 15 while its host updates the same rows in serializable transactions', async t => {
  await onPostgres15(t, flushesUnderSerializable)
})

async function flushesUnderSerializable(database: TestDatabase): Promise<void> {
  await setForAll(database, 'default_transaction_isolation', 'serializable')
  const { pool } = database
  const ids = await createWorkspaces(pool, 20)
  const log = collectLog()
  let updating = true
  const updates = Array.from({ length: 4 }, async (_, at) => {
    const host = await database.connect()
    for (let turn = 0; updating; turn++) {
      const id = ids[(turn * 7 + at) % ids.length]
      // The host's own transactions may fail among themselves. Ours must not.
      await host
        .query('UPDATE workspaces SET last_used_at = last_used_at WHERE id = $1', [id])
        .catch(() => {})
    }
  })
  try {
    await using _worker = await startFlushWorker({
      database: database.connectionString,
      logger: log.logger,
      flushIntervalSeconds: 1,
    })
    for (let round = 0; round < 5; round++) {
      await storeClosedMarks(pool, ids)
      const before = log.find('updated workspaces').length
      await until('a flush has ended', () => log.find('updated workspaces').length > before)
    }
  } finally {
    updating = false
    await Promise.all(updates)
  }
  assert.deepEqual(failures(log), [])
}

test('a worker on a pool with other type parsers flushes, drains, and keeps the schedule', async () => {
  const database = await createTestDatabase()
  await setForAll(database, 'DateStyle', 'SQL, DMY')
  await setForAll(database, 'IntervalStyle', 'sql_standard')
  const getTypeParser = (oid: number) => (text: string) => (oid === 23 ? BigInt(text) : { odd: text })
  const pool = new pg.Pool({ connectionString: database.connectionString, types: { getTypeParser } as never })
  const ids = await createWorkspaces(database.pool, 25)
  await storeClosedMarks(database.pool, ids)
  const log = collectLog()
  {
    await using _worker = await startFlushWorker({ database: pool, logger: log.logger, batchSize: 10 })
    await until('all marks are flushed', async () => (await pendingCount(database.pool)) === 0)
    await until('the cron has sent a job', async () => {
      const { rows } = await database.pool.query('SELECT last_job_id FROM pgboss.schedule WHERE name = $1', [
        FLUSH_QUEUE,
      ])
      return rows[0].last_job_id
    })
  }
  assert.deepEqual(failures(log), [])
  assert.equal(await flushedByJobs(database.pool), 25)
  const last = await lastFlush(database.pool)
  assert.ok(Math.abs(last!.completedAt.getTime() - Date.now()) < 60_000)
  assert.equal(typeof last!.flushed, 'number')
  await pool.end()
})

test('a pool whose driver reads values in a way that no statement can change is refused when a worker starts', async () => {
  const { connectionString } = await createTestDatabase()
  const pool = new pg.Pool({ connectionString })
  const odd = {
    connect: async () => {
      const client = await pool.connect()
      return {
        query: async (text: string, values?: unknown[]) => {
          const { rows = [], rowCount } = await client.query(text, values)
          return {
            rows: rows.map(row => JSON.parse(JSON.stringify(row), (_, v) => (v === true ? 't' : v))),
            rowCount,
          }
        },
        on: client.on.bind(client),
        removeListener: client.removeListener.bind(client),
        release: (broken?: boolean | Error) => client.release(broken),
      }
    },
    query: () => assert.fail('a worker takes clients'),
    on: pool.on.bind(pool),
    removeListener: pool.removeListener.bind(pool),
  }
  await assert.rejects(startFlushWorker({ database: odd, logger: collectLog().logger }), {
    name: 'DriverFormatError',
    found: "{ number: 1, yesNo: 't', json: { a: [ 1 ] }, text: 'x' }",
  })
  await pool.end()
})

test('a worker that row security would hide workspaces from is refused when it starts', async () => {
  await refusesHiddenRows(await testServer())
})

test('a worker that row security would hide workspaces from is refused on PostgreSQL 15', async t => {
  const server = await testServer15()
  if (server === null) return t.skip(POSTGRES_15_MISSING)
  await refusesHiddenRows(server)
})

async function refusesHiddenRows(server: string): Promise<void> {
  const role = await createLoginRole(server, 'worker')
  const database = await createTestDatabase({ on: server })
  await grantPrivileges(database.pool, { workers: [role.name] })
  await database.pool.query('ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY')
  const starting = startFlushWorker({
    database: role.connectionString(database),
    logger: collectLog().logger,
  })
  await assert.rejects(starting, { name: 'RowSecurityError', table: 'workspaces', role: role.name })
}

async function setForAll({ pool, name }: TestDatabase, setting: string, value: string): Promise<void> {
  const database = pg.escapeIdentifier(name)
  await pool.query(`ALTER DATABASE ${database} SET ${setting} = ${pg.escapeLiteral(value)}`)
}

function failures(log: ReturnType<typeof collectLog>) {
  return log.lines.filter(({ level }) => level === 'warn' || level === 'error')
}
