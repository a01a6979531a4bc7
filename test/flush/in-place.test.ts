import assert from 'node:assert/strict'
import pg from 'pg'
import { grantPrivileges } from '../../src/access/grant.ts'
import type { Queryable } from '../../src/database/connection.ts'
import { flush } from '../../src/flush/flush.ts'
import { migrate } from '../../src/schema/migrate.ts'
import type { TestDatabase } from '../support/database.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces, lastUsedAt, storeClosedMarks } from '../support/seed.ts'

/*
 * In a table, a flush updates the rows where it has locked them, by their ctid. Not every `workspaces` is such a table.
 */

testOnBothVersions('the rows of a plain table are updated in place', async ({ pool, connectionString }) => {
  await migrate({ connectionString })
  const ids = await createWorkspaces(pool, 20)
  const at = await storeClosedMarks(pool, ids)
  assert.equal(await flushesInPlace(pool), true)
  assert.deepEqual(await lastUsedAt(pool, ids), Array(20).fill(at))
})

testOnBothVersions(
  'the right rows are updated if a child of the table has rows at the same places',
  async ({ pool, connectionString }) => {
    await migrate({ connectionString })
    const ids = await createWorkspaces(pool, 20)
    await pool.query('CREATE TABLE child (PRIMARY KEY (id)) INHERITS (workspaces)')
    const { rows } = await pool.query('INSERT INTO child SELECT FROM generate_series(1, 20) RETURNING id')
    const inChild: string[] = rows.map(({ id }) => id)
    const marked = [...ids.slice(0, 5), ...inChild.slice(10, 15)]
    const at = await storeClosedMarks(pool, marked)
    assert.equal(await flushesInPlace(pool, { sources: false }), false)
    const { rows: used } = await pool.query('SELECT id FROM workspaces WHERE last_used_at IS NOT NULL')
    assert.deepEqual(used.map(({ id }) => id).sort(), marked.toSorted())
    assert.deepEqual(await lastUsedAt(pool, marked), Array(10).fill(at))
  },
)

testOnBothVersions(
  'a view has no places, and its rows are found by id',
  async ({ pool, connectionString }) => {
    await pool.query('CREATE SCHEMA app; CREATE TABLE app.boxes (id uuid PRIMARY KEY, used timestamptz)')
    await migrate({ connectionString, table: 'app.boxes', lastUsedColumn: 'used' })
    const { rows } = await pool.query('INSERT INTO app.boxes SELECT gen_random_uuid() RETURNING id')
    const at = await storeClosedMarks(pool, [rows[0].id])
    assert.equal(await flushesInPlace(pool), false)
    assert.deepEqual(await lastUsedAt(pool, [rows[0].id]), [at])
  },
)

testOnBothVersions(
  'a worker that was granted its duty before ctid was part of it flushes all the same',
  async database => {
    const { pool, connectionString } = database
    await migrate({ connectionString })
    const role = await createLoginRole(connectionString, 'old worker')
    await grantPrivileges(pool, { workers: [role.name] })
    const ids = await createWorkspaces(pool, 3)
    const asWorker = role.pool(database)
    await storeClosedMarks(pool, ids, { agoMs: 60_000 })
    assert.equal(await flushesInPlace(asWorker), true)
    const quoted = pg.escapeIdentifier(role.name)
    await pool.query(`REVOKE SELECT (ctid) ON workspaces FROM ${quoted}`)
    const at = await storeClosedMarks(pool, ids)
    assert.equal(await flushesInPlace(asWorker), false)
    assert.deepEqual(await lastUsedAt(pool, ids), Array(3).fill(at))
    await pool.query(`DROP OWNED BY ${quoted}`)
  },
)

/** Flushes, and tells whether the statement updates rows in place. */
async function flushesInPlace(pool: TestDatabase['pool'], options = {}): Promise<boolean> {
  const client = await pool.connect()
  let text = ''
  const listening: Queryable = {
    query: (sql, values) => {
      if (sql.includes('due AS')) text = sql
      return client.query(sql, values)
    },
  }
  try {
    await flush(listening, options)
    return text.includes('updated_in_place')
  } finally {
    client.release()
  }
}
