/* The migration that gives the sources of marks another type, and the marks that are there. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import type { TestDatabase } from '../support/database.ts'
import { createDatabaseWithSchemas, OWN_SCHEMA } from '../support/hostile-path.ts'
import { hostDatabase, ID_HOSTS } from '../support/id-hosts.ts'
import { testOnMigrated } from '../support/on-both-versions.ts'
import { createWorkspaces, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { takeBackCheck } from '../support/taken-back.ts'
import { openTransaction } from '../support/transaction.ts'

const ODD = ['🦊'.repeat(63), ' ', 'ends with blanks  ', '"ssh"', "it's", 'B', 'a', 'é', '\\u0000 %s $1 {}']

testOnMigrated(
  'marks stored before keep their sources, up and down, also those that are set aside',
  async database => {
    const { pool, connectionString } = database
    await takeBackCheck(connectionString)
    const [id] = await createWorkspaces(pool, 1)
    for (const source of ODD) await storeClosedMarks(pool, [id!], { source })
    const missing = crypto.randomUUID()
    for (const source of ODD) await storeClosedMarks(pool, [missing], { source })
    await using holder = await openTransaction(database)
    await holder.client.query('SELECT FROM workspaces FOR UPDATE')
    const { held, awaited } = await flush(pool)
    assert.deepEqual([held, awaited], [ODD.length, ODD.length])
    await holder.client.query('ROLLBACK')
    // Of an open period, however long the test takes.
    await storeClosedMarks(pool, [id!], { source: 'B', agoMs: -3_600_000 })
    const before = await marks(database)

    await migrate({ connectionString })
    assert.deepEqual(await marks(database), before)
    await takeBackCheck(connectionString)
    assert.deepEqual(await marks(database), before)
    await migrate({ connectionString })
    assert.equal((await flush(pool)).flushed, ODD.length)
    const { rows } = await pool.query('SELECT source FROM workspace_usage WHERE workspace_id = $1', [id])
    assert.deepEqual(rows.map(({ source }) => source).sort(), ODD.toSorted())
  },
)

testOnMigrated('an empty source becomes "unknown" when the migration is taken back', async database => {
  const { pool, connectionString } = database
  const [both, empty] = (await createWorkspaces(pool, 2)) as [string, string]
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT now() + interval '1 h', id, source FROM (VALUES ($1::uuid, ''), ($1, 'unknown'), ($2, '')) m (id, source)`,
    [both, empty],
  )
  await storeClosedMarks(pool, [crypto.randomUUID()], { source: '' })
  assert.equal((await flush(pool)).awaited, 1)
  await takeBackCheck(connectionString)
  assert.deepEqual(
    (await marks(database)).map(([table, , source]) => [table, source]),
    [
      ['pending_usage', 'unknown'],
      ['pending_usage', 'unknown'],
      ['set_aside_usage', 'unknown'],
    ],
  )
})

testOnMigrated('what a flush noted in the former order of sources is forgotten', async database => {
  const { pool, connectionString } = database
  const note = async () => (await pool.query('SELECT unsettled FROM pending_usage_witness')).rows
  for (const change of [takeBackCheck, (url: string) => migrate({ connectionString: url })]) {
    await pool.query(`UPDATE pending_usage_witness SET unsettled = '{}'`)
    await change(connectionString)
    assert.deepEqual(await note(), [{ unsettled: null }])
  }
})

for (const host of ID_HOSTS) {
  test(`with ids of type ${host.name}, marks survive the migration`, async () => {
    const { pool, connectionString } = await hostDatabase(host)
    await takeBackCheck(connectionString)
    const { idType, ids } = host
    await markUsage(pool, ids, { idType, source: 'é' })
    const before = await pendingCount(pool)
    await migrate({ connectionString })
    assert.equal(await pendingCount(pool), before)
    await pool.query(`UPDATE pending_usage SET period_end = now() - interval '1 s'`)
    assert.equal((await flush(pool)).flushed, ids.length)
  })
}

test('in a schema that is named, beside other schemas, the tables there are changed', async () => {
  const { pool, connectionString } = await createDatabaseWithSchemas()
  const types = async () => {
    const { rows } = await pool.query(`
      SELECT attrelid::regclass::oid = 'public.pending_usage'::regclass AS other, format_type(atttypid, atttypmod) AS type
      FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relname = 'pending_usage' AND attname = 'source'
      ORDER BY 1`)
    return rows.map(({ type }) => type)
  }
  await takeBackCheck(connectionString, OWN_SCHEMA)
  assert.deepEqual(await types(), ['text', 'character varying(63)'])
  await migrate({ connectionString, schema: OWN_SCHEMA })
  assert.deepEqual(await types(), ['character varying(63)', 'character varying(63)'])
})

async function marks({ pool }: TestDatabase): Promise<string[][]> {
  const { rows } = await pool.query({
    text: `SELECT tableoid::regclass::text, workspace_id, source::text, period_end::text FROM pending_usage
      ORDER BY 1, 2, source COLLATE "C"`,
    rowMode: 'array',
  })
  return rows
}
