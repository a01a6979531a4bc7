import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

/* What a worker does with a database that was restored from a dump of pg_dump. Its version 15 dumps a server of 15. */

const PROGRAMS = '/usr/lib/postgresql/15/bin'
const EMPTIED = 'pending_usage was emptied'
const RESTORED = 'the database was restored or copied'

test('a dump with the pending marks is restored with all of them, a worker flushes them without a migration, and says that later marks are missing', async t => {
  const [source, target] = await restored(t, [])
  if (!source || !target) return
  const { ids, usedAt } = source
  assert.equal(await pendingCount(target.pool), 1)
  const log = await flushOnce(target)
  assert.deepEqual(await lastUsedAt(target.pool, ids), usedAt)
  assert.equal(log.find(EMPTIED).length, 0)
  assert.deepEqual(await reasons(target), ['restore'])
  assert.equal(log.find(RESTORED).length, 1)
})

test('a dump without the rows of UNLOGGED tables has lost the pending marks only, and the first flush says so', async t => {
  const [source, target] = await restored(t, ['--no-unlogged-table-data'])
  if (!source || !target) return
  const { ids, usedAt } = source
  assert.equal(await pendingCount(target.pool), 0)
  const log = await flushOnce(target)
  assert.deepEqual(await lastUsedAt(target.pool, ids), [usedAt[0], null])
  assert.equal(log.find(EMPTIED).length, 1)
  assert.match(log.find(EMPTIED)[0]!.message, /by a restore/)
  assert.deepEqual(await reasons(target), ['restore'])
})

test('after a restore of an older dump, the row of the witness can be deleted, so that the next flush tells a loss', async t => {
  const [, target] = await restored(t, [])
  if (!target) return
  await target.pool.query('DELETE FROM pending_usage_witness')
  const log = await flushOnce(target)
  assert.equal(log.find(EMPTIED).length, 1)
})

interface Source {
  /** A workspace whose mark was flushed before the dump, and one whose mark was pending. */
  ids: string[]
  usedAt: Date[]
}

/** Dumps a database in use and restores it into an empty one. Skips the test where the programs are missing. */
async function restored(
  t: TestContext,
  options: string[],
): Promise<[source?: Source, target?: TestDatabase]> {
  const on = await testServer15()
  if (on === null || !existsSync(`${PROGRAMS}/pg_restore`)) {
    t.skip(POSTGRES_15_MISSING)
    return []
  }
  const source = await createTestDatabase({ on })
  const ids = await createWorkspaces(source.pool, 2)
  const flushed = await storeClosedMarks(source.pool, ids.slice(0, 1))
  await flushOnce(source)
  const pending = await storeClosedMarks(source.pool, ids.slice(1))
  const target = await createEmptyDatabase({ on })
  const run = promisify(execFile)
  const { stdout } = await run(
    `${PROGRAMS}/pg_dump`,
    ['--format=custom', ...options, source.connectionString],
    { encoding: 'buffer', maxBuffer: 2 ** 26 },
  )
  const restoring = run(`${PROGRAMS}/pg_restore`, ['--exit-on-error', '--dbname', target.connectionString])
  restoring.child.stdin!.end(stdout)
  await restoring
  return [{ ids, usedAt: [flushed, pending] }, target]
}

/** Why marks were lost, in their order. */
async function reasons({ pool }: TestDatabase): Promise<string[]> {
  const { rows } = await pool.query('SELECT reason FROM pending_usage_reset ORDER BY noticed_at')
  return rows.map(({ reason }) => reason)
}

async function flushOnce({ connectionString, pool }: TestDatabase): Promise<ReturnType<typeof collectLog>> {
  const log = collectLog()
  await using worker = await startFlushWorker({
    database: connectionString,
    logger: log.logger,
    flushIntervalSeconds: 1,
  })
  await until(
    'a flush has run, and nothing is pending',
    async () =>
      log.lines.some(({ message }) =>
        /^(nothing to flush|updated workspaces|pending_usage|the database was restored)/.test(message),
      ) && (await pendingCount(pool)) === 0,
  )
  await worker.stop()
  return log
}
