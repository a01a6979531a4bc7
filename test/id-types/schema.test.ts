import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { migrateDown } from '../../src/schema/migrate-down.ts'
import { createEmptyDatabase } from '../support/database.ts'
import { hostDatabase, ID_HOSTS, type IdHost } from '../support/id-hosts.ts'
import { execution } from '../support/plan.ts'
import { schemaDump } from '../support/schema-dump.ts'

const of = (name: string) => ID_HOSTS.find(host => host.name === name)!

for (const host of ID_HOSTS) {
  test(`all tables have ids of the type ${host.name} of the host's table, and all migrations can be taken back and run again`, async () => {
    const { pool, connectionString } = await hostDatabase(host)
    const { rows } = await pool.query(`
      SELECT c.relname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attcollation = h.attcollation AS collated
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      JOIN pg_attribute h ON h.attrelid = 'workspaces'::regclass AND h.attname = 'id'
      WHERE a.attname = 'workspace_id' AND c.relkind = 'r'`)
    assert.ok(rows.length >= 4)
    const type = host.idType === 'text' ? 'character varying(255)' : host.idType
    for (const { name, ...found } of rows) assert.deepEqual(found, { type, collated: true }, name)

    const dump = await schemaDump(pool)
    while ((await migrateDown({ connectionString })) !== null);
    const { rows: left } = await pool.query('SELECT count(*)::int AS count FROM workspaces')
    assert.equal(left[0].count, host.ids.length)
    await migrate({ connectionString })
    assert.equal(await schemaDump(pool), dump)
  })
}

test('a view of a host gives its type as well', async () => {
  const { pool, connectionString } = await createEmptyDatabase()
  await pool.query(`
    CREATE TABLE sandboxes (key bigint PRIMARY KEY, "lastActivityAt" timestamptz);
    INSERT INTO sandboxes (key) VALUES (7)`)
  await migrate({ connectionString, table: 'sandboxes', idColumn: 'key', lastUsedColumn: 'lastActivityAt' })
  await pool.query(`INSERT INTO pending_usage (period_end, workspace_id) VALUES (now() - interval '1 s', 7)`)
  assert.equal((await flush(pool)).updated, 1)
  const { rows } = await pool.query(`SELECT key, "lastActivityAt" IS NOT NULL AS used FROM sandboxes`)
  assert.deepEqual(rows, [{ key: '7', used: true }])
})

test('a bigint takes eight bytes', async () => {
  const { pool } = await hostDatabase(of('bigint'))
  await pool.query(`INSERT INTO pending_usage (workspace_id) VALUES (7)`)
  const { rows } = await pool.query('SELECT pg_column_size(workspace_id) AS bytes FROM pending_usage')
  assert.deepEqual(rows, [{ bytes: 8 }])
})

for (const host of ['bigint', 'text', 'varchar(300)', 'text of a collation that ignores case'].map(of)) {
  test(`the views look up one id of type ${host.name} in the indexes`, async () => {
    const { pool } = await hostDatabase(host, { others: host.others(20_000) })
    await closedMarks(pool, host, host.others(10_000))
    await drain(pool, { batchSize: 10_000 })
    await closedMarks(pool, host, host.others(10_000))
    await pool.query('ANALYZE')
    const [id] = host.others(1)
    for (const view of ['workspace_activity', 'workspace_activity_by_source', 'workspace_usage_daily']) {
      const { pages, text } = await execution(pool, `SELECT * FROM ${view} WHERE workspace_id = '${id}'`)
      assert.ok(pages < 150, `${view} read ${pages} pages:\n${text}`)
    }
  })
}

test('if two texts of a batch have the same hash, nothing of it is settled, and the next flush settles it', async () => {
  const host = of('text')
  const { pool } = await hostDatabase(host, { others: host.others(4) })
  await closedMarks(pool, host, host.others(4))
  const client = await pool.connect()
  await client.query(`
    CREATE SCHEMA colliding;
    CREATE FUNCTION colliding.hashtextextended(text, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
      RETURN length($1);
    SET search_path = colliding, pg_catalog, public`)
  const { flushed, held } = await flush(client)
  assert.deepEqual({ flushed, held }, { flushed: 0, held: 4 })
  const { rows } = await client.query('SELECT FROM workspaces WHERE last_used_at IS NOT NULL')
  assert.equal(rows.length, 0)
  client.release(true)
  assert.equal((await flush(pool)).updated, 4)
})

async function closedMarks(
  pool: { query(sql: string, values: unknown[]): unknown },
  { idType }: IdHost,
  ids: string[],
) {
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT date_trunc('minute', now()) - interval '1 minute', id, 'ssh' FROM unnest($1::${idType}[]) AS id`,
    [ids],
  )
}
