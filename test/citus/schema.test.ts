import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { explainUsage, type UsageExplanation } from '../../src/activity/explain.ts'
import { usageSources } from '../../src/activity/sources.ts'
import { inSchema } from '../../src/database/in-schema.ts'
import { DistributionRefusedError } from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { type MigrateOptions, migrate } from '../../src/schema/migrate.ts'
import { uninstall } from '../../src/schema/uninstall.ts'
import { setPeriodLength } from '../support/period.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { clusterOfRun } from './support/cluster.ts'
import { type ClusterDatabase, createEmptyClusterDatabase } from './support/cluster-database.ts'

const cluster = await clusterOfRun()
const skip = typeof cluster === 'string' ? cluster : false
const QUIET = { debug() {}, info() {}, warn() {}, error() {} }

/** A database on the cluster with few shards, because each one takes time. */
async function emptyDatabase(): Promise<ClusterDatabase> {
  if (typeof cluster === 'string') throw new Error(cluster)
  const database = await createEmptyClusterDatabase(cluster)
  await database.pool.query(`ALTER DATABASE ${pg.escapeIdentifier(database.name)} SET citus.shard_count = 4`)
  return database
}

const migrated = (database: ClusterDatabase, options: Partial<MigrateOptions> = {}) =>
  migrate({ connectionString: database.connectionString, logger: QUIET, ...options })

test('migrate distributes the tables of a filled database, and all that was known of use stays', {
  skip,
}, async () => {
  const database = await emptyDatabase()
  const { pool } = database
  const plain = await migrated(database)
  assert.equal(plain.citus, null)
  await setPeriodLength(pool, 3_600)
  const ids = await createWorkspaces(pool, 20)
  await storeClosedMarks(pool, ids.slice(0, 10), { source: 'ssh' })
  await storeClosedMarks(pool, [crypto.randomUUID()], { source: 'ghost' })
  await flush(pool)
  await markUsage(pool, ids.slice(5, 15), { source: 'vscode' })
  await markUsage(pool, [ids[16]!], { source: 'job', until: new Date(Date.now() + 3_600_000) })
  const before = await told(pool, ids)

  const { citus } = await migrated(database, { citus: true })
  const nodes = database.cluster.workers.length
  assert.deepEqual(citus, { shards: 4, nodes: Math.min(4, nodes) })

  assert.deepEqual(await told(pool, ids), before)
  for (const worker of database.workers) {
    const node = new pg.Pool({ connectionString: worker })
    assert.deepEqual(await told(node, ids), before, 'on each node')
    await node.end()
  }
  assert.deepEqual((await usageSources(pool)).map(({ source }) => source).sort(), [
    'ghost',
    'job',
    'ssh',
    'vscode',
  ])
})

/** What is known of each workspace, without what depends on the moment. */
async function told(pool: pg.Pool, ids: readonly string[]): Promise<UsageExplanation[]> {
  const explanations: UsageExplanation[] = []
  for (const id of ids) explanations.push(await explainUsage(pool, id))
  return explanations.map(explanation => ({
    ...explanation,
    asOf: new Date(0),
    lastUsedAt: explanation.sources.some(({ pending }) => pending) ? new Date(0) : explanation.lastUsedAt,
    sources: explanation.sources.map(source => ({
      ...source,
      ...(source.pending && { lastUsedAt: new Date(0), since: null, usedSeconds: 0 }),
    })),
  }))
}

test('a second migrate changes nothing, with and without the option, and a column created_at is shown', {
  skip,
}, async () => {
  const database = await emptyDatabase()
  await migrated(database, { citus: true })
  const before = await placed(database)
  const again = await migrated(database, { citus: true })
  assert.deepEqual([again.applied, again.citus?.shards], [[], 4])
  assert.deepEqual(await placed(database), before)

  await database.pool.query('ALTER TABLE workspaces ADD COLUMN created_at timestamptz DEFAULT now()')
  const [id] = await createWorkspaces(database.pool, 1)
  const plain = await migrated(database)
  assert.equal(plain.citus?.shards, 4)
  assert.deepEqual(await placed(database), before)
  assert.notEqual((await explainUsage(database.pool, id!)).createdAt, null)
})

async function placed({ pool }: ClusterDatabase): Promise<unknown[]> {
  const { rows } = await pool.query(
    `SELECT logicalrelid::text, partmethod, colocationid, shardid, groupid
    FROM pg_dist_partition LEFT JOIN pg_dist_shard USING (logicalrelid) LEFT JOIN pg_dist_placement USING (shardid)
    ORDER BY 1, shardid, groupid`,
  )
  const { rows: witnesses } = await pool.query('SELECT * FROM pending_usage_shard_witness ORDER BY 1')
  return [...rows, ...witnesses]
}

for (const [type, value] of [
  ['bigint', 'i'],
  ['integer', 'i'],
  ['uuid', 'gen_random_uuid()'],
] as const) {
  test(`a table of the host with ids of type ${type} that it has distributed itself is used as it is`, {
    skip,
  }, async () => {
    const database = await emptyDatabase()
    const { pool } = database
    await pool.query(`CREATE TABLE workspaces (id ${type} PRIMARY KEY, last_used_at timestamptz, name text)`)
    await pool.query("SELECT create_distributed_table('workspaces', 'id', shard_count => 3)")
    await pool.query(`INSERT INTO workspaces SELECT ${value} FROM generate_series(1, 10) AS i`)
    const { citus } = await migrated(database, { citus: true })
    assert.equal(citus?.shards, 3)
    const { rows } = await pool.query('SELECT id::text FROM workspaces')
    const ids = rows.map(({ id }) => id)
    await markUsage(pool, ids, { source: 'ssh', idType: type })
    const { rows: shown } = await pool.query(
      'SELECT count(*)::int AS pending FROM workspace_activity WHERE pending',
    )
    assert.equal(shown[0].pending, 10)
    const { rows: keys } = await pool.query(
      "SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = 'workspaces'::regclass",
    )
    assert.equal(keys.length, 2, 'a workspace that is deleted takes its history along')
  })
}

const HOST = 'CREATE TABLE workspaces (id uuid PRIMARY KEY, last_used_at timestamptz, org integer)'

const REFUSED: [name: string, prepare: string[], message: RegExp][] = [
  ['a reference table', [HOST, "SELECT create_reference_table('workspaces')"], /is a reference table/],
  [
    'a table with one shard',
    [HOST, "SELECT create_distributed_table('workspaces', NULL)"],
    /has a single shard/,
  ],
  ['a table with row security', [HOST, 'ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY'], /row security/],
  [
    'a table with a trigger',
    [
      HOST,
      "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
      'CREATE TRIGGER nothing BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION nothing()',
    ],
    /has triggers/,
  ],
  [
    'ids that are texts',
    ['CREATE TABLE workspaces (id text PRIMARY KEY, last_used_at timestamptz)'],
    /ids of workspaces are texts/,
  ],
  [
    'a view of another table',
    [
      'CREATE TABLE boxes (id uuid PRIMARY KEY, last_used_at timestamptz)',
      'CREATE VIEW workspaces AS SELECT * FROM boxes',
    ],
    /"workspaces" is a view of public.boxes/,
  ],
]

for (const [name, prepare, message] of REFUSED) {
  test(`${name} is refused with the reason, and nothing is distributed`, { skip }, async () => {
    const database = await emptyDatabase()
    for (const statement of prepare) await database.pool.query(statement)
    await assert.rejects(migrated(database, { citus: true }), (error: Error) => {
      assert.ok(error instanceof DistributionRefusedError, String(error))
      assert.match(error.message, message)
      return true
    })
    const { rows } = await database.pool.query(
      "SELECT FROM pg_dist_partition WHERE logicalrelid = 'pending_usage'::regclass",
    )
    assert.equal(rows.length, 0)
  })
}

test('a worker, LOGGED tables and a server without Citus are refused, each with the remedy', {
  skip,
}, async () => {
  const database = await emptyDatabase()
  const refused = (options: Partial<MigrateOptions>, message: RegExp) =>
    assert.rejects(migrated(database, { citus: true, ...options }), message)
  await refused({ connectionString: database.workers[0]! }, /Connect to the coordinator/)
  await refused({ logged: true }, /in a run of its own/)
  await database.pool.query('SELECT citus_remove_node(nodename, nodeport) FROM pg_dist_node')
  await refused({}, /knows no nodes/)
  await database.pool.query('DROP EXTENSION citus')
  await refused({}, /no extension "citus"/)
})

test('the tables can be in a schema of their own, unless its name needs quotes', { skip }, async () => {
  const database = await emptyDatabase()
  await assert.rejects(migrated(database, { citus: true, schema: 'My usage' }), /needs quotes/)
  await migrated(database, { citus: true, schema: 'own_usage' })
  const pool = inSchema(database.pool, 'own_usage')
  const { rows } = await database.pool.query('INSERT INTO own_usage.workspaces DEFAULT VALUES RETURNING id')
  await markUsage(pool, [rows[0].id], { source: 'ssh' })
  await database.pool.query("UPDATE own_usage.pending_usage SET source = 'cron'")
  await database.pool.query(
    "INSERT INTO own_usage.pending_usage (workspace_id, source, period_end) VALUES ($1, 'old', now())",
    [rows[0].id],
  )
  assert.equal((await flush(pool)).flushed, 1)
  const { sources } = await explainUsage(pool, rows[0].id)
  assert.deepEqual(sources.map(({ source }) => source).sort(), ['cron', 'old'])
})

test('uninstall takes everything from all nodes', { skip }, async () => {
  const database = await emptyDatabase()
  await migrated(database, { citus: true })
  await uninstall({ connectionString: database.connectionString })
  for (const connectionString of [database.connectionString, ...database.workers]) {
    const client = new pg.Client({ connectionString })
    await client.connect()
    const { rows } = await client.query(
      "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname ~ 'usage|workspace'",
    )
    await client.end()
    assert.deepEqual(rows, [])
  }
})
