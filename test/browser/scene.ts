import type pg from 'pg'
import { openHttpPort } from '../../src/http/http-port.ts'
import { FAILED_FLUSH_QUEUE, FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { heardPool } from '../support/heard-pool.ts'
import { startWaitingJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

/** The marks of the flushes after the first. */
const LATER_FLUSHES = [407, 682, 295]

/** What there is to see on the dashboard: see {@link setScene}. */
export interface Scene extends AsyncDisposable {
  /** Of the dashboard. */
  url: string
  pool: pg.Pool
  /** The job of a flush of 1,345 marks, 111 of them of workspaces that do not exist. */
  finishedJob: string
  /** A job that has failed for good, because the application had locked the table. */
  failedJob: string
}

/** A worker with a dashboard, a flush that has finished, one that has failed, and a warning, in a migrated database. */
export async function setScene(connectionString: string): Promise<Scene> {
  await using cleanUp = new AsyncDisposableStack()
  const pool = cleanUp.adopt(heardPool({ connectionString }), pool => pool.end())
  const { logger } = collectLog()
  const database = connectionString
  const port = cleanUp.use(
    await openHttpPort({
      port: 0,
      host: '127.0.0.1',
      database,
      logger,
      health: {},
      dashboard: { write: true },
    }),
  )
  const ids = await storeMarks(pool)
  const options = { flushIntervalSeconds: 5, flushTimeoutSeconds: 1, batchSize: 2_000 }
  cleanUp.use(await startFlushWorker({ database, logger, ...options }))
  const finishedJob = await flushOf(pool, 1_345)
  for (const marks of LATER_FLUSHES) {
    await storeClosedMarks(pool, ids.slice(0, marks), { source: 'vscode' })
    await startWaitingJobs(pool)
    await flushOf(pool, marks)
  }
  const failedJob = await failFlush(pool, ids)
  await pool.query(
    `INSERT INTO pgboss.warning (type, message, data) VALUES ('slow_query', $1, '{"elapsed": 31.4}')`,
    ['Warning: slow query. Your queues and/or database server should be reviewed'],
  )
  const stack = cleanUp.move()
  return {
    url: `${port.url}/queues`,
    pool,
    finishedJob,
    failedJob,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

/** Marks of 1,345 workspaces. 111 of them do not exist, and their marks are so old that they count as unknown. */
async function storeMarks(pool: pg.Pool): Promise<string[]> {
  const ids = await createWorkspaces(pool, 1_234)
  const deleted = Array.from({ length: 111 }, () => crypto.randomUUID())
  await storeClosedMarks(pool, [...ids, ...deleted], { source: 'ssh', agoMs: 3_600_000 })
  return ids
}

/** The application locks the table for longer than a flush may take. */
async function failFlush(pool: pg.Pool, ids: string[]): Promise<string> {
  const client = await pool.connect()
  try {
    await client.query('BEGIN; LOCK TABLE workspaces')
    await storeClosedMarks(pool, ids)
    await pool.query(
      `INSERT INTO pgboss.job (name, policy, singleton_key, retry_limit, dead_letter)
      VALUES ($1, 'short', 'scene', 0, $2)`,
      [FLUSH_QUEUE, FAILED_FLUSH_QUEUE],
    )
    return await jobThat(pool, `state = 'failed' AND singleton_key = 'scene'`)
  } finally {
    await client.query('ROLLBACK')
    client.release()
  }
}

const flushOf = (pool: pg.Pool, marks: number) =>
  jobThat(pool, `state = 'completed' AND output->>'flushed' = '${marks}'`)

/** Waits for a flush job. */
async function jobThat(pool: pg.Pool, condition: string): Promise<string> {
  const statement = `SELECT id FROM pgboss.job WHERE name = $1 AND ${condition} ORDER BY completed_on LIMIT 1`
  const find = async () => (await pool.query(statement, [FLUSH_QUEUE])).rows[0] as { id: string } | undefined
  return (await until(`there is a job: ${condition}`, find, { timeoutMs: 30_000 })).id
}
