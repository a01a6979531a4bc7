import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import path from 'node:path'
import { test } from 'node:test'
import pg from 'pg'
import { createTestDatabase, type TestDatabase } from '../../support/database.ts'
import { until } from '../../support/poll.ts'
import { startServer } from '../../support/server.ts'
import { mountSmallDisk, type SmallDisk } from '../../support/small-disk.ts'
import { type Load, startLoad } from '../load.ts'
import { assertTold, untilToldOnce } from '../resets.ts'

/*
 * A disk of the server is full, under load. If it holds the tables, statements fail with 53100, and nothing is lost. If
 * it holds the write-ahead log, PostgreSQL itself gives up (PANIC). That is a crash, which takes pending marks.
 */

const NO_SPACE = '53100'

test('a disk full of tables loses no mark: marks and flushes fail with 53100, and go on by themselves when there is space', async t => {
  const disk = await mountSmallDisk(96)
  if (typeof disk === 'string') return t.skip(disk)
  const server = await startServer({ synchronous_commit: 'on' })
  const database = await createTestDatabase({ on: server.connectionString })
  const { pool } = database
  await moveTo(disk, database, server.connectionString)
  const load = await startLoad(database, { workspaces: 30_000 })
  await load.untilFlushedAgain(pool)
  load.measureGapFromNow()
  disk.fill()
  await until(
    'marks and flushes have failed three times',
    () => failedMarks(load) > 2 && failedFlushes(load) > 2,
    {
      timeoutMs: 120_000,
    },
  )
  disk.free()
  const recovered = await load.untilFlushedAgain(pool, 120_000)
  const words = `recovered in ${recovered.toFixed(1)} s, tracker gap ${load.trackerGapSeconds.toFixed(1)} s`
  const failed = `${failedMarks(load)} failed batches, ${failedFlushes(load)} failed flushes`
  assert.equal(await load.judge(t, pool, { recovery: `${words}, ${failed}` }), 0)
  await assertTold(pool, load, 0)
  await database.drop()
})

test('a disk full of write-ahead log is a crash of the server: what was flushed stays, and the loss is told once', async t => {
  const disk = await mountSmallDisk(96)
  if (typeof disk === 'string') return t.skip(disk)
  const server = await startServer({
    synchronous_commit: 'on',
    max_wal_size: '32MB',
    min_wal_size: '32MB',
  })
  const database = await createTestDatabase({ on: server.connectionString })
  const { pool } = database
  await server.shutDown()
  const log = path.join(server.dataDirectory, 'pg_wal')
  execFileSync('mv', [log, path.join(disk.path, 'pg_wal')])
  execFileSync('ln', ['-s', path.join(disk.path, 'pg_wal'), log])
  await server.startUp()
  const load = await startLoad(database)
  await load.untilFlushedAgain(pool)
  load.measureGapFromNow()
  disk.fill()
  const flushed = await load.flushed(pool)
  await until('the server has given up', () => writeLog(pool).then(() => false, isCrash), {
    timeoutMs: 60_000,
  })
  disk.free()
  // PostgreSQL tries to start by itself, and gives up if there is still no space. Then an operator starts it.
  const isUp = async () => {
    try {
      return await pool.query('SELECT 1')
    } catch {
      await server.startUp().catch(() => {})
      return false
    }
  }
  await until('the server is up', isUp, { timeoutMs: 60_000, intervalMs: 500 })
  const recovered = await load.untilFlushedAgain(pool, 120_000)
  const gap = load.trackerGapSeconds
  const completeSince = await untilToldOnce(pool, load, 'crash')
  const after = await load.flushed(pool)
  const undone = [...flushed].filter(([id, time]) => !(after.get(id)! >= time))
  assert.deepEqual(undone, [], 'what was flushed is still there')
  const recovery = `recovered in ${recovered.toFixed(1)} s, tracker gap ${gap.toFixed(1)} s`
  await load.judge(t, pool, { lostBefore: completeSince, recovery })
  await assertTold(pool, load, 1)
})

/** Moves all tables of a database. Nobody may be connected meanwhile. */
async function moveTo(disk: SmallDisk, { name, pool }: TestDatabase, server: string): Promise<void> {
  await pool.query('SELECT 1')
  const client = new pg.Client({ connectionString: server })
  await client.connect()
  await client.query(`CREATE TABLESPACE small LOCATION '${disk.path}'`)
  await until('the database has moved', async () => {
    await client.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [name])
    await client.query(`ALTER DATABASE ${pg.escapeIdentifier(name)} SET TABLESPACE small`)
    return true
  })
  await client.end()
}

function failedMarks({ log }: Load): number {
  return log
    .find('to be stored')
    .filter(({ fields }) => (fields.err as { code?: string } | undefined)?.code === NO_SPACE).length
}

function failedFlushes({ log }: Load): number {
  return [...log.find('flush failed'), ...log.find('flush keeps failing')].filter(
    ({ fields }) => (fields.err as { code?: string } | undefined)?.code === NO_SPACE,
  ).length
}

/** Writes two megabytes of it. */
async function writeLog(pool: pg.Pool): Promise<unknown> {
  return await pool.query("SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 2000000))")
}

/** Nothing else of a full disk ends a connection. */
function isCrash(error: unknown): boolean {
  const { code } = error as { code?: string }
  return code !== NO_SPACE
}
