import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { startEmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { createPool } from '../../src/database/pool.ts'
import { diagnose } from '../../src/doctor/diagnose.ts'
import type { Diagnosis } from '../../src/doctor/finding.ts'
import { flush } from '../../src/flush/flush.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { PGBOUNCER_MISSING, startPgBouncer } from '../support/pgbouncer.ts'
import { until } from '../support/poll.ts'
import { catalogObjects, schemaDump } from '../support/schema-dump.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { startServer } from '../support/server.ts'
import { startStandby } from '../support/standby.ts'
import { urlOf } from '../support/template.ts'

const OWN_SETTINGS = `SELECT * FROM pg_db_role_setting
  WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())`

testOnBothVersions(
  'the doctor says that an empty database is not migrated, and nothing else',
  async ({ pool }) => {
    const { findings, checks } = await diagnose(pool)
    assert.deepEqual(described({ findings }), ['critical not-migrated table pending_usage'])
    assert.equal(checks[0]!.notChecked, 'something critical is in the way')
  },
)

testOnBothVersions(
  'the doctor finds nothing in a schema with a quoted name that the connection string names, and a role that lacks the path',
  async ({ pool, connectionString, name }) => {
    await pool.query('CREATE SCHEMA "My ""usage"", 利用"')
    const path = '"My\\ ""usage"",\\ 利用"'
    const url = `${connectionString}?options=${encodeURIComponent(`-c search_path=${path}`)}`
    await migrated(url)
    const through = createPool(url, { applicationName: 'doctor', max: 2 })
    atEnd(() => through.end())
    const [first, ...others] = described(await diagnose(through))
    assert.match(first!, /^note search-path-differs role "/)
    assert.deepEqual(others, [])
    await pool.query(`ALTER DATABASE ${pg.escapeIdentifier(name)} SET search_path = "My ""usage"", 利用"`)
    assert.deepEqual(described(await diagnose(through)), [])
    const fresh = createPool(connectionString, { applicationName: 'doctor', max: 2 })
    atEnd(() => fresh.end())
    assert.deepEqual(described(await diagnose(fresh)), [])
  },
)

testOnBothVersions(
  'the doctor names the migrations that are still to run',
  async ({ pool, connectionString }) => {
    await migrated(connectionString)
    const { rows } = await pool.query(
      `DELETE FROM workspace_usage_migration WHERE name = (SELECT max(name) FROM workspace_usage_migration) RETURNING name`,
    )
    assert.deepEqual(described(await diagnose(pool)), [`critical migrations-pending ${rows[0].name}`])
  },
)

testOnBothVersions(
  'the doctor changes nothing, neither the catalog nor a row',
  async ({ pool, connectionString }) => {
    await migrated(connectionString)
    await storeClosedMarks(pool, await createWorkspaces(pool, 3))
    const state = async () => ({
      objects: await catalogObjects(pool),
      schema: await schemaDump(pool),
      rows: await rowsOf(pool),
      // Tests of other databases set what is theirs meanwhile.
      settings: (await pool.query(OWN_SETTINGS)).rows,
    })
    const before = await state()
    assert.ok(before.rows.length > 10)
    await diagnose(pool)
    const client = await pool.connect()
    // On a connection that is no pool, its statements are as they are.
    await diagnose(client)
    client.release()
    assert.deepEqual(await state(), before)
  },
)

testOnBothVersions(
  'every statement of the doctor on a pool runs in a read-only transaction, or only asks who the server is',
  async ({ connectionString }) => {
    await migrated(connectionString)
    const watched = heardPool({ connectionString, max: 2 })
    atEnd(() => watched.end())
    const outside: string[] = []
    let inside = 0
    watched.on('connect', client => {
      const { query } = client
      let readOnly = false
      client.query = ((text: unknown, ...rest: unknown[]) => {
        if (typeof text === 'string') {
          if (/^BEGIN .*READ ONLY/.test(text)) readOnly = true
          if (readOnly) inside += 1
          else outside.push(text)
          if (/^(COMMIT|ROLLBACK)$/.test(text)) readOnly = false
        }
        return (query as (...all: unknown[]) => unknown).call(client, text, ...rest)
      }) as typeof client.query
    })
    await diagnose(watched)
    assert.ok(inside > 60, String(inside))
    assert.deepEqual(outside, ['SELECT pg_backend_pid()::text AS pid'])
  },
)

testOnBothVersions(
  'the doctor tells a pooler in transaction mode, and notes what follows',
  async ({ connectionString }, t) => {
    await migrated(connectionString)
    const pooled = await startPgBouncer(connectionString)
    if (pooled === null) return t.skip(PGBOUNCER_MISSING)
    const through = createPool(pooled, { applicationName: 'doctor', max: 2 })
    atEnd(() => through.end())
    const { findings, checks, ok } = await diagnose(through)
    assert.deepEqual(described({ findings }), ['note pooler transaction mode'])
    assert.equal(checks.find(({ name }) => name === 'pooler')!.seen, 'a pooler, transaction mode')
    assert.equal(ok, true)
  },
)

testOnBothVersions(
  'the doctor finds a pooler that drops the search_path of the connection string, and tells its session mode',
  async ({ connectionString, pool }, t) => {
    await pool.query('CREATE SCHEMA usage')
    const options = `?options=${encodeURIComponent('-c search_path=usage')}`
    await migrated(`${connectionString}${options}`)
    const pooled = await startPgBouncer(connectionString, [
      'pool_mode = session',
      'ignore_startup_parameters = options',
    ])
    if (pooled === null) return t.skip(PGBOUNCER_MISSING)
    const through = createPool(`${pooled}${options}`, { applicationName: 'doctor', max: 2 })
    atEnd(() => through.end())
    assert.deepEqual(described(await diagnose(through)), [
      'critical options-dropped search_path',
      'critical search-path table pending_usage',
      'note pooler session mode',
    ])
  },
)

testOnBothVersions(
  'the doctor finds a temporary table in the place of ours',
  async ({ connectionString }) => {
    await migrated(connectionString)
    const client = new pg.Client({ connectionString })
    await client.connect()
    await client.query('CREATE TEMPORARY TABLE refused_usage ()')
    const { findings, checks } = await diagnose(client)
    await client.end()
    assert.ok(described({ findings }).includes('critical temporary-table table refused_usage'))
    assert.match(checks.find(({ name }) => name === 'pooler')!.notChecked!, /not a pg Pool/)
  },
)

test('the doctor finds settings of the server that nobody should run with', async () => {
  const server = await startEmbeddedPostgres({
    settings: { fsync: 'off', autovacuum: 'off', max_connections: '12' },
  })
  atEnd(() => server.stop())
  const pool = createPool(server.connectionString, { applicationName: 'doctor', max: 2 })
  await migrated(server.connectionString)
  const { findings } = await diagnose(pool)
  await pool.end()
  assert.deepEqual(
    findings.map(({ severity, code, object }) => `${severity} ${code} ${object}`),
    [
      'warning autovacuum-off setting autovacuum',
      'note not-durable setting fsync',
      'note few-connections null',
    ],
  )
})

testOnBothVersions(
  'the doctor tells by how much the clocks are apart',
  async ({ pool, connectionString }, t) => {
    await migrated(connectionString)
    t.mock.timers.enable({ apis: ['Date'], now: Date.now() + 90_000 })
    const { findings } = await diagnose(pool)
    t.mock.timers.reset()
    assert.deepEqual(described({ findings }), ['warning clock'])
    const { message } = findings.find(({ code }) => code === 'clock')!
    assert.match(
      message,
      /^The clock of the database is (8[5-9]|90)\.\d s behind the clock of this machine\. /,
    )
  },
)

testOnBothVersions(
  'the doctor warns of few HOT updates once there are enough updates',
  async ({ pool, connectionString }) => {
    await migrated(connectionString)
    await pool.query(`ALTER TABLE workspaces ADD name int; CREATE INDEX ON workspaces (name)`)
    await createWorkspaces(pool, 1_500)
    const counted = async (updates: number) =>
      await until('the updates are counted', async () => {
        const { rows } = await pool.query(
          `SELECT n_tup_upd::int AS updates FROM pg_stat_user_tables WHERE relname = 'workspaces'`,
        )
        return rows[0].updates >= updates
      })
    await pool.query('UPDATE workspaces SET name = 1 WHERE ctid IN (SELECT ctid FROM workspaces LIMIT 900)')
    await counted(900)
    assert.deepEqual(described(await diagnose(pool)), [])
    await pool.query('UPDATE workspaces SET name = 2')
    await counted(2_400)
    assert.deepEqual(described(await diagnose(pool)), ['warning few-hot-updates table workspaces'])
  },
)

test('the doctor says of a standby that it is one, and nothing else', async () => {
  const primary = await startServer()
  const database = await createTestDatabase({ on: primary.connectionString })
  const server = await startStandby(primary)
  const standby = createPool(urlOf(server.connectionString, database.name), {
    applicationName: 'doctor',
    max: 2,
  })
  try {
    assert.deepEqual(described(await diagnose(standby)), ['critical standby'])
  } finally {
    await standby.end()
  }
})

test('a database that is out of reach is an error of the doctor, and no diagnosis', async () => {
  const nowhere = createPool('postgres://127.0.0.1:1/nowhere', { applicationName: 'doctor', max: 2 })
  atEnd(() => nowhere.end())
  await assert.rejects(diagnose(nowhere), { code: 'ECONNREFUSED' })
})

/** Migrates, and flushes once, as if a worker was there. */
async function migrated(connectionString: string): Promise<void> {
  await migrate({ connectionString })
  const pool = heardPool({ connectionString, max: 1 })
  await flush(pool)
  await pool.end()
}

async function rowsOf(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query(`
    SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('public', 'pgboss') AND c.relkind = 'r' ORDER BY 1`)
  const found: string[] = []
  for (const { name } of rows) {
    const table = await pool.query(`SELECT t.ctid, t.xmin, t.* FROM ${name} t ORDER BY t.ctid`)
    found.push(`${name}: ${JSON.stringify(table.rows)}`)
  }
  return found
}

function described({ findings }: Pick<Diagnosis, 'findings'>): string[] {
  return findings
    .filter(({ code }) => code !== 'not-durable')
    .map(({ severity, code, object }) => [severity, code, object].filter(part => part !== null).join(' '))
}
