import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { createPool } from '../../src/database/pool.ts'
import { emptyResult } from '../../src/flush/flush-within.ts'
import { FlushAttempt } from '../../src/worker/flush-attempt.ts'
import type { FinishedFlush } from '../../src/worker/flush-log.ts'
import { JobDatabase } from '../../src/worker/job-database.ts'
import { JobTransaction } from '../../src/worker/job-transaction.ts'
import { createTestDatabase } from '../support/database.ts'

const database = await createTestDatabase()
const { pool } = database
await pool.query('CREATE TABLE kept (name text UNIQUE DEFERRABLE INITIALLY DEFERRED)')

let reports: unknown[]
let jobs: JobDatabase
beforeEach(async () => {
  await pool.query('TRUNCATE kept')
  reports = []
  jobs = new JobDatabase(pool, {
    committed: ({ result }) => reports.push(result.flushed),
    failed: error => reports.push(error),
  })
})

test('JobTransaction.of accepts the db that pg-boss gives to a handler, and nothing else', async () => {
  const { db, rollback } = await jobs.beginTransaction()
  assert.equal(JobTransaction.of(db), db)
  await rollback()
  assert.throws(() => JobTransaction.of(pool), TypeError)
})

test('jobs at the same time in one process each report their own flush', async () => {
  const [one, two, three] = await begin(3)
  await keep(one!, 'one')
  await keep(two!, 'two')
  await keep(three!, 'three')
  const refusal = new Error('of the third')
  three!.db.failed(refusal)
  two!.db.succeeded(flushed(2))
  one!.db.succeeded(flushed(1))
  await three!.rollback()
  await one!.commit()
  await two!.commit()
  assert.deepEqual(reports, [refusal, 1, 2])
  assert.deepEqual(await kept(), ['one', 'two'])
})

test('a job whose transaction is rolled back after its handler succeeded reports one failure and no success', async () => {
  const [job] = await begin(1)
  await keep(job!, 'one')
  job!.db.succeeded(flushed(1))
  await job!.rollback()
  await job!.rollback()
  assert.deepEqual(reports.map(String), [
    'Error: the job was taken away from this worker before its flush could commit',
  ])
  assert.deepEqual(await kept(), [])
})

test('an error that a savepoint undid is not the reason of a later failure', async () => {
  const [job] = await begin(1)
  await job!.db.query('SAVEPOINT before')
  await assert.rejects(job!.db.query('SELECT 1 / 0'))
  await job!.db.query('ROLLBACK TO SAVEPOINT before')
  await job!.rollback()
  assert.deepEqual(reports.map(String), [
    'Error: the job was taken away from this worker before its flush could commit',
  ])
})

test('a job whose commit the database refuses reports that error once, and no success', async () => {
  const [job] = await begin(1)
  await keep(job!, 'one')
  await keep(job!, 'one')
  job!.db.succeeded(flushed(2))
  const refusal = await job!.commit().then(
    () => assert.fail('was not refused'),
    error => error,
  )
  assert.equal(refusal.code, '23505')
  await job!.rollback()
  assert.deepEqual(reports, [refusal])
  assert.deepEqual(await kept(), [])
})

test('a handler that continues after the end of its transaction writes nothing and changes no report', async () => {
  const [late] = await begin(1)
  await late!.rollback()
  const told = [...reports]
  await assert.rejects(keep(late!, 'late'), /the transaction of this job has already ended/)
  late!.db.failed(new Error('late'))
  late!.db.succeeded(flushed(9))
  await late!.rollback()
  assert.deepEqual(reports, told)
  assert.deepEqual(await kept(), [])
})

test('a connection that breaks in the middle of a job is reported, and is not used again', async () => {
  const [job] = await begin(1)
  const { rows } = await job!.db.query('SELECT pg_backend_pid() AS pid')
  const { pid } = rows[0] as { pid: number }
  await pool.query('SELECT pg_terminate_backend($1, 5000)', [pid])
  await assert.rejects(keep(job!, 'one'))
  job!.db.succeeded(flushed(1))
  await job!.rollback()
  assert.deepEqual(
    reports.map(error => (error as { code: string }).code),
    ['57P01'],
  )
  assert.equal((await pool.query('SELECT FROM pg_stat_activity WHERE pid = $1', [pid])).rowCount, 0)
})

test('a transaction that cannot begin is reported as a failed flush', async () => {
  const refusal = new Error('no connection')
  const jobs = new JobDatabase(
    Object.assign(Object.create(pool), { connect: () => Promise.reject(refusal) }),
    {
      committed: () => assert.fail('nothing was committed'),
      failed: error => reports.push(error),
    },
  )
  await assert.rejects(jobs.beginTransaction(), refusal)
  assert.deepEqual(reports, [refusal])
})

test('session statements run once in every session of pg-boss, even in a session that was open before', async () => {
  const own = createPool(database.connectionString, { applicationName: 'test', max: 1 })
  await own.query('CREATE TABLE prepared (pid int)')
  const { rows: before } = await own.query('SELECT pg_backend_pid() AS pid')
  const jobs = new JobDatabase(own, { committed() {}, failed() {} })
  await jobs.setSessionStatements([`SET test.clock = 'on'`, 'INSERT INTO prepared VALUES (pg_backend_pid())'])
  const text = `SELECT current_setting('test.clock', true) AS clock`
  const { db, rollback } = await jobs.beginTransaction()
  assert.deepEqual((await db.query(text)).rows, [{ clock: 'on' }])
  await rollback()
  assert.deepEqual((await jobs.executeSql(text)).rows, [{ clock: 'on' }])
  assert.deepEqual((await own.query('SELECT pid FROM prepared')).rows, before)
  await own.end()
})

function begin(count: number) {
  return Promise.all(
    Array.from({ length: count }, async (_, number) => {
      const job = await jobs.beginTransaction()
      job.db.belongsTo(new FlushAttempt(`job-${number}`, 'queue'))
      return job
    }),
  )
}

function flushed(count: number): FinishedFlush {
  const result = { ...emptyResult(), flushed: count, workspaces: count, updated: count }
  return { result, durationMs: 1 }
}

async function keep(job: Awaited<ReturnType<JobDatabase['beginTransaction']>>, name: string): Promise<void> {
  await job.db.executeSql('INSERT INTO kept VALUES ($1)', [name])
}

async function kept(): Promise<string[]> {
  const { rows } = await pool.query('SELECT name FROM kept ORDER BY name')
  return rows.map(({ name }) => name)
}
