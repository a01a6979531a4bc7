import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import pg from 'pg'
import { flush } from '../../src/flush/flush.ts'
import { noticeReset, type UsageReset } from '../../src/flush/reset.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { POSTGRES_15_MISSING, startInstalledPostgres15 } from '../support/installed-postgres-15.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { startServer } from '../support/server.ts'
import { createDatabase, dropDatabase, urlOf } from '../support/template.ts'

/* Why marks were lost, and from when on they are complete. Each server is one of this file, because it crashes. */

/** What is committed must survive a crash. */
const SETTINGS = { synchronous_commit: 'on' }

const server15 = await startInstalledPostgres15(SETTINGS)
if (server15) atEnd(() => server15.stop())

for (const major of [18, 15] as const) {
  const server = major === 18 ? await startServer(SETTINGS) : server15
  suite(`resets on PostgreSQL ${major}`, { skip: server === null && POSTGRES_15_MISSING }, () => {
    if (server !== null) resetsOn(server, major)
  })
}

function resetsOn(server: NonNullable<typeof server15>, major: number): void {
  test(`no loss is noticed in a new database, and marks were always complete, on PostgreSQL ${major}`, async () => {
    const { pool } = await createTestDatabase({ on: server.connectionString })
    assert.equal(await noticeReset(pool), null)
    assert.equal(await completeSince(pool), -Infinity)
  })

  test(`a crash of the server is named as such, also by a flush after one that was rolled back, on PostgreSQL ${major}`, async () => {
    const { pool } = await flushedDatabase(server.connectionString)
    await server.crash()
    await until('the server answers', () => pool.query('SELECT').catch(() => false))
    assert.ok(isNow(await completeSince(pool)))

    const client = await pool.connect()
    await client.query('BEGIN')
    assert.equal((await noticeReset(client))?.reason, 'crash')
    await client.query('ROLLBACK')
    client.release()
    assert.ok(isNow(await completeSince(pool)))

    const { reset, emptied } = await flush(pool)
    assert.deepEqual([reset?.reason, reset?.emptied, emptied], ['crash', true, true])
    assert.equal(await completeSince(pool), await noticedAt(pool))
    assert.equal(reset!.completeSince.getTime(), await noticedAt(pool))
    assert.equal((await flush(pool)).reset, null)
    await pool.query('DELETE FROM pending_usage_witness')
    assert.equal((await flush(pool)).reset?.reason, 'unknown', 'the same crash is not told twice')
  })

  test(`a witness that somebody has removed by hand is a loss of unknown reason on PostgreSQL ${major}`, async () => {
    const { pool } = await flushedDatabase(server.connectionString)
    await pool.query('DELETE FROM pending_usage_witness')
    assert.equal((await noticeReset(pool))?.reason, 'unknown')
    await pool.query('TRUNCATE pending_usage_witness')
    assert.equal((await noticeReset(pool))?.reason, 'unknown')
    await pool.query('TRUNCATE pending_usage, pending_usage_witness, set_aside_usage, refused_usage')
    assert.equal((await noticeReset(pool))?.reason, 'unknown')
    assert.equal(await noticeReset(pool), null)
  })

  test(`a copy of a database by CREATE DATABASE … TEMPLATE is a restore, whose marks are complete from its first flush on, on PostgreSQL ${major}`, async () => {
    const source = await flushedDatabase(server.connectionString)
    const copy = await copyOf(source, server.connectionString)
    assert.ok(isNow(await completeSince(copy)))
    const reset = (await noticeReset(copy)) as UsageReset
    assert.deepEqual([reset.reason, reset.emptied], ['restore', false])
    assert.equal(await completeSince(copy), reset.completeSince.getTime())
    assert.equal(await noticeReset(copy), null)
  })

  test(`a copy of a database in which nothing was ever flushed has lost nothing, on PostgreSQL ${major}`, async () => {
    const source = await createTestDatabase({ on: server.connectionString })
    const copy = await copyOf(source, server.connectionString)
    assert.equal(await completeSince(copy), -Infinity)
    assert.equal(await noticeReset(copy), null)
    await storeClosedMarks(copy, await createWorkspaces(copy, 1))
    await flush(copy)
    assert.equal(await completeSince(copy), -Infinity)
    assert.equal((await flush(copy)).reset, null)
  })

  test(`rewriting our tables, as VACUUM FULL, pg_repack and pg_upgrade do, is no loss, and a crash afterwards is still named, on PostgreSQL ${major}`, async () => {
    const { pool } = await flushedDatabase(server.connectionString)
    for (const table of ['pending_usage', 'pending_usage_witness', 'pending_usage_place']) {
      await pool.query(`VACUUM FULL ${table}`)
    }
    // pg_repack writes each row anew.
    await pool.query('UPDATE pending_usage_place SET noted = noted WHERE NOT noted')
    assert.equal(await noticeReset(pool), null)
    assert.equal(await completeSince(pool), -Infinity)
    // A server of another version, with another identity.
    await pool.query(`UPDATE pending_usage_place SET server_major = 9, system_identifier = '1', timeline = '00000009',
      database_oid = 1 WHERE noted`)
    assert.equal(await noticeReset(pool), null)
    assert.equal(await completeSince(pool), -Infinity)

    await server.crash()
    await until('the server answers', () => pool.query('SELECT').catch(() => false))
    assert.equal((await noticeReset(pool))?.reason, 'crash')
  })

  test(`a flush goes on without a reason where the server does not tell its timeline, on PostgreSQL ${major}`, async () => {
    const { pool } = await flushedDatabase(server.connectionString)
    await pool.query(`UPDATE pending_usage_place SET system_identifier = NULL, timeline = NULL WHERE noted`)
    assert.equal(await noticeReset(pool), null)
    await pool.query('DELETE FROM pending_usage_witness')
    assert.equal((await flush(pool)).reset?.reason, 'unknown')
  })

  test(`everybody may ask from when on marks are complete, and a search_path can not mislead the answer, on PostgreSQL ${major}`, async () => {
    const { pool } = await flushedDatabase(server.connectionString)
    await pool.query('DELETE FROM pending_usage_witness')
    await noticeReset(pool)
    await pool.query('CREATE ROLE nobody_special LOGIN')
    atEnd(() => pool.query('DROP ROLE nobody_special').catch(() => {}))
    const client = await pool.connect()
    try {
      await client.query(`SET ROLE nobody_special; SET search_path = pg_temp, public;
        CREATE TEMP TABLE pending_usage_reset (noticed_at timestamptz);
        CREATE TEMP TABLE pending_usage_witness (present boolean)`)
      await assert.rejects(client.query('SELECT FROM public.pending_usage_reset'), { code: '42501' })
      const { rows } = await client.query(
        'SELECT extract(epoch FROM public.usage_complete_since())::float8 * 1000 AS ms',
      )
      assert.equal(Math.floor(rows[0].ms), await noticedAt(pool))
    } finally {
      client.release(true)
    }
  })
}

async function flushedDatabase(on: string): Promise<TestDatabase> {
  const database = await createTestDatabase({ on })
  // Younger than the last crash of this server.
  await storeClosedMarks(database.pool, await createWorkspaces(database.pool, 1), { agoMs: 1 })
  assert.equal((await flush(database.pool)).updated, 1)
  return database
}

async function copyOf(source: TestDatabase, server: string): Promise<pg.Pool> {
  await source.pool.query('CHECKPOINT')
  await until('nobody is connected to the source', async () => {
    const client = new pg.Client({ connectionString: server })
    await client.connect()
    try {
      const { rowCount } = await client.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1',
        [source.name],
      )
      return rowCount === 0
    } finally {
      await client.end()
    }
  })
  const name = await createDatabase(server, 'copy', source.name)
  const copy = heardPool({ connectionString: urlOf(server, name), max: 3 })
  atEnd(async () => {
    await copy.end()
    await dropDatabase(server, name)
  })
  return copy
}

/** In milliseconds, rounded down. */
async function completeSince(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query(
    `SELECT floor(extract(epoch FROM usage_complete_since()) * 1000)::float8 AS ms`,
  )
  return rows[0].ms
}

async function noticedAt(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query(
    'SELECT floor(extract(epoch FROM max(noticed_at)) * 1000)::float8 AS ms FROM pending_usage_reset',
  )
  return rows[0].ms
}

function isNow(ms: number): boolean {
  return Math.abs(Date.now() - ms) < 5_000
}
