import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { migrate } from '../../src/schema/migrate.ts'
import { migrateDown } from '../../src/schema/migrate-down.ts'
import { uninstall } from '../../src/schema/uninstall.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { installOlderPgBoss } from '../support/older-pg-boss.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { until } from '../support/poll.ts'
import { catalogObjects, schemaDump } from '../support/schema-dump.ts'

/** Settings of a database that a host may have. Each one would fail a migration, or change its result. */
const SETTINGS = {
  lock_timeout: '300ms',
  statement_timeout: '300ms',
  transaction_timeout: '300ms',
  idle_in_transaction_session_timeout: '300ms',
  default_transaction_isolation: 'serializable',
  default_transaction_deferrable: 'on',
  DateStyle: 'SQL, DMY',
  IntervalStyle: 'sql_standard',
  TimeZone: 'Asia/Kathmandu',
  standard_conforming_strings: 'off',
  quote_all_identifiers: 'on',
  row_security: 'off',
  check_function_bodies: 'off',
  default_table_access_method: 'heap',
  client_min_messages: 'debug1',
  extra_float_digits: '-10',
  bytea_output: 'escape',
  xmlbinary: 'hex',
}

testOnBothVersions(
  "migrate waits longer than the host's timeouts, in every step, and makes the same schema under all its settings",
  async database => {
    const { connectionString, pool } = database
    await set(database)
    await installOlderPgBoss(database, '11.1.1')
    const reader = await database.connect()
    await reader.query('SET transaction_timeout = 0').catch(() => {})
    await reader.query('SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0')
    await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1')

    const migrations = [migrate({ connectionString }), migrate({ connectionString })]

    // An index waits for the reader, the first run waits for the index, and the second one for the first.
    await until('an index has waited for more than a second', async () => {
      const { rows } = await pool.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'virtualxid'
         AND clock_timestamp() - query_start > interval '1 second'`,
      )
      return rows.length
    })
    await reader.query('ROLLBACK')
    const applied = (await Promise.all(migrations)).map(result => result.applied.length)
    assert.deepEqual(
      applied.map(count => count > 0),
      applied[0] === 0 ? [false, true] : [true, false],
    )
    const plain = await database.connect()
    await plain.query(
      'SET quote_all_identifiers = off; SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = UTC; SET statement_timeout = 0',
    )
    const dump = await schemaDump(plain)
    const unset = await createTestDatabase({ on: serverOf(connectionString) })
    assert.equal(dump, await schemaDump(unset.pool))
  },
)

testOnBothVersions("migrateDown and uninstall work under a host's settings", async database => {
  const { connectionString, pool } = database
  const before = await catalogObjects(pool)
  await set(database)
  const { applied } = await migrate({ connectionString })
  assert.equal(await migrateDown({ connectionString }), applied.at(-1))
  const { left } = await uninstall({ connectionString })
  assert.deepEqual(left, [])
  assert.deepEqual(await catalogObjects(pool), before)
})

for (const schema of ['My "App"', 'Grün', 'a.b', "it's", 'select']) {
  testOnBothVersions(
    `migrate can be repeated in a schema named ${schema}, says its name, and uninstall removes everything`,
    async ({ connectionString, pool }) => {
      await pool.query(`CREATE SCHEMA ${pg.escapeIdentifier(schema)}`)
      const before = await catalogObjects(pool)
      const url = new URL(connectionString)
      const option = `-c search_path=${pg.escapeIdentifier(schema).replaceAll(/[\\ ]/g, '\\$&')}`
      url.search = `?options=${encodeURIComponent(option)}`
      const first = await migrate({ connectionString: url.href })
      const objects = await catalogObjects(pool)

      const second = await migrate({ connectionString: url.href })

      assert.deepEqual([first.schema, second.schema], [schema, schema])
      assert.deepEqual([first.applied.length > 0, second.applied], [true, []])
      assert.deepEqual(await catalogObjects(pool), objects)
      await uninstall({ connectionString: url.href })
      assert.deepEqual(await catalogObjects(pool), before)
    },
  )
}

test('migrate says whether it created the table workspaces, and what to do if that was not intended', async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  const lines: string[] = []
  const logger = { debug() {}, warn() {}, error() {}, info: (_: object, line: string) => lines.push(line) }
  assert.equal((await migrate({ connectionString, logger })).workspacesCreated, true)
  assert.ok(lines.some(line => /^created the empty table "workspaces".+ migrate --table/.test(line)))
  assert.equal((await migrate({ connectionString })).workspacesCreated, false)

  await uninstall({ connectionString })
  await pool.query('CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz)')
  assert.equal((await migrate({ connectionString })).workspacesCreated, false)
})

async function set({ name, pool }: TestDatabase): Promise<void> {
  for (const [setting, value] of Object.entries(SETTINGS)) {
    await pool
      .query(`ALTER DATABASE ${pg.escapeIdentifier(name)} SET ${setting} = ${pg.escapeLiteral(value)}`)
      .catch((error: pg.DatabaseError) => {
        // PostgreSQL 15 has no transaction_timeout.
        if (error.code !== '42704') throw error
      })
  }
}

function serverOf(connectionString: string): string {
  const url = new URL(connectionString)
  url.pathname = '/postgres'
  return url.href
}
