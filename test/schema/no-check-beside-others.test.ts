/* The migration that gives the sources of marks another type, and those who use the database meanwhile. */

import assert from 'node:assert/strict'
import pg from 'pg'
import { usageSources } from '../../src/activity/sources.ts'
import { SchemaChangeRefusedError } from '../../src/errors.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { setUsagePeriod } from '../../src/schema/period.ts'
import type { TestDatabase } from '../support/database.ts'
import { untilBlockedBy } from '../support/locks.ts'
import { testOnMigrated } from '../support/on-both-versions.ts'
import { createLoginRole } from '../support/roles.ts'
import { schemaDump } from '../support/schema-dump.ts'
import { createWorkspaces, pendingCount } from '../support/seed.ts'
import { takeBackCheck } from '../support/taken-back.ts'
import { openTransaction } from '../support/transaction.ts'

testOnMigrated(
  'views, functions, options and rights of the host that stand on ours survive, up and down',
  async database => {
    const { pool, connectionString } = database
    const reader = await createLoginRole(database.connectionString, 'reader')
    const name = pg.escapeIdentifier(reader.name)
    await takeBackCheck(connectionString)
    await pool.query(`
    CREATE SCHEMA "the host's";
    CREATE VIEW "the host's"."Uses" WITH (security_barrier) AS
      SELECT workspace_id, source, last_used_at FROM workspace_activity_by_source;
    CREATE VIEW marked WITH (security_barrier) AS
      SELECT workspace_id, count(*) AS marks FROM pending_usage WHERE source <> 'poller' GROUP BY workspace_id;
    COMMENT ON VIEW marked IS 'of the host';
    CREATE FUNCTION marked_by(source text) RETURNS SETOF uuid LANGUAGE sql STABLE
      BEGIN ATOMIC SELECT workspace_id FROM pending_usage p WHERE p.source = marked_by.source; END;
    GRANT USAGE ON SCHEMA "the host's" TO ${name};
    GRANT SELECT ON "the host's"."Uses", marked, workspace_activity, pending_usage_period TO ${name};
    GRANT INSERT (workspace_id, source), SELECT (source) ON pending_usage TO ${name};
    GRANT EXECUTE ON FUNCTION mark_usage_until(uuid, timestamptz, text) TO ${name}`)
    const [id] = (await createWorkspaces(pool, 1)) as [string]
    const before = await surroundings(database)
    const dump = await schemaDump(pool)

    await migrate({ connectionString })
    assert.deepEqual(await surroundings(database), before)
    const theirs = reader.pool(database)
    await markUsage(theirs, id, { source: 'ssh', until: new Date(Date.now() + 60_000) })
    const seen = await theirs.query(
      `SELECT source, pg_typeof(source)::text AS type, collation for (source) AS collation
    FROM "the host's"."Uses" WHERE workspace_id = $1`,
      [id],
    )
    assert.deepEqual(seen.rows, [{ source: 'ssh', type: 'text', collation: '"default"' }])
    assert.deepEqual((await theirs.query('SELECT marks::int FROM marked')).rows, [{ marks: 2 }])
    assert.deepEqual((await pool.query(`SELECT DISTINCT marked_by('ssh') AS id`)).rows, [{ id }])

    await takeBackCheck(connectionString)
    assert.deepEqual(await surroundings(database), before)
    assert.equal(await schemaDump(pool), dump)
    await pool.query(`DROP OWNED BY ${name}`)
  },
)

testOnMigrated(
  'a view of the host that shows the column itself is named, and nothing changes',
  async database => {
    const { pool, connectionString } = database
    await takeBackCheck(connectionString)
    await pool.query('CREATE VIEW raw AS SELECT workspace_id, source FROM pending_usage')
    const dump = await schemaDump(pool)
    await assert.rejects(migrate({ connectionString }), (error: SchemaChangeRefusedError) => {
      assert.ok(error instanceof SchemaChangeRefusedError)
      assert.match(
        error.message,
        /public\.raw shows pending_usage\.source: .*\. Nothing was changed\. Drop it, repeat/,
      )
      return true
    })
    assert.equal(await schemaDump(pool), dump)
    await pool.query('DROP VIEW raw')
    await migrate({ connectionString })
  },
)

testOnMigrated('prepared marks of open sessions go on, and see a change of the period', async database => {
  const { pool, connectionString } = database
  await takeBackCheck(connectionString)
  const session = await database.connect({ application_name: 'gateway' })
  const ids = await createWorkspaces(pool, 3)
  const one = (id: string) =>
    session.query({
      name: 'one',
      text: 'INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING',
      values: [id],
    })
  const named = (id: string, source: string) =>
    session.query({
      name: 'named',
      text: 'INSERT INTO pending_usage (workspace_id, source) VALUES ($1, $2) ON CONFLICT DO NOTHING',
      values: [id, source],
    })
  // From the sixth run on, PostgreSQL keeps the plan.
  for (let run = 0; run < 7; run++) await Promise.all([one(ids[0]!), named(ids[0]!, 'ssh')])
  await migrate({ connectionString })
  assert.equal((await one(ids[1]!)).rowCount, 1)
  assert.equal((await named(ids[1]!, 'ssh')).rowCount, 1)
  for (let run = 0; run < 7; run++) await Promise.all([one(ids[1]!), named(ids[1]!, 'ssh')])
  await setUsagePeriod(pool, 3_600)
  await one(ids[2]!)
  await assert.rejects(named(ids[2]!, 'x'.repeat(64)), { code: '22001' })
  const { rows } = await pool.query(
    `SELECT source, extract(epoch FROM period_end)::int % 3600 AS beyond FROM pending_usage WHERE workspace_id = $1`,
    [ids[2]],
  )
  assert.deepEqual(rows, [{ source: 'gateway', beyond: 0 }])
})

testOnMigrated(
  'it waits for an open mark without keeping others waiting, and meets no deadlock with that transaction',
  async database => {
    const { pool, connectionString } = database
    await takeBackCheck(connectionString)
    const [first, second] = (await createWorkspaces(pool, 2)) as [string, string]
    await using open = await openTransaction(database)
    await markUsage(open.client, first)
    const migrated = migrate({ connectionString })
    await untilBlockedBy(pool, open.client.processID)
    const impatient = await database.connect({ lock_timeout: 2_000 })
    await markUsage(impatient, second)
    await open.client.query('SELECT FROM workspace_activity')
    await open.client.query('COMMIT')
    await migrated
    assert.equal(await pendingCount(pool), 2)
  },
)

testOnMigrated(
  'it gives up if a transaction holds the marks for long, names the remedy, and changes nothing',
  async database => {
    const { pool, connectionString } = database
    await takeBackCheck(connectionString)
    const dump = await schemaDump(pool)
    await using open = await openTransaction(database)
    await markUsage(open.client, crypto.randomUUID())
    await assert.rejects(
      migrate({ connectionString }),
      /lock timeout.*Stop the workers and the services that mark/,
    )
    assert.equal(await schemaDump(pool), dump)
  },
)

testOnMigrated(
  'every mark that services store meanwhile is there afterwards, and views are read',
  async database => {
    const { pool, connectionString } = database
    await takeBackCheck(connectionString)
    let stored = 0
    const going = new AbortController()
    const services = Array.from({ length: 4 }, async () => {
      while (!going.signal.aborted) {
        await markUsage(pool, crypto.randomUUID(), { source: 'ssh' })
        stored++
      }
    })
    const reader = (async () => {
      while (!going.signal.aborted) await usageSources(pool)
    })()
    await migrate({ connectionString })
    await takeBackCheck(connectionString)
    await migrate({ connectionString })
    going.abort()
    await Promise.all([...services, reader])
    assert.ok(stored > 0)
    assert.equal(await pendingCount(pool), stored)
  },
)

/** What somebody else has made of our views and functions: rights, options, comments, definitions. */
async function surroundings({ pool }: TestDatabase): Promise<unknown> {
  const relations = await pool.query(`
    SELECT c.oid, c.relname, c.relowner, c.relacl::text, c.reloptions, obj_description(c.oid, 'pg_class'),
      (SELECT json_agg(json_build_array(attname, atttypid, attcollation, attacl::text) ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = c.oid AND relkind = 'v') AS columns,
      (SELECT json_agg(json_build_array(attname, attacl::text) ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL) AS granted
    FROM pg_class c WHERE relkind IN ('v', 'r') AND relnamespace::regnamespace::text !~ '^(pg_|information|pgboss)'
      AND relname NOT LIKE 'workspace_usage_migration%'
    ORDER BY 2`)
  const functions = await pool.query(`
    SELECT oid, proname, proowner, proacl::text, prosecdef, provolatile, obj_description(oid, 'pg_proc')
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 2`)
  return [relations.rows, functions.rows]
}
