import assert from 'node:assert/strict'
import { usageHealth } from '../../src/activity/health.ts'
import { diagnose } from '../../src/doctor/diagnose.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import type { TestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'
import { until } from '../support/poll.ts'
import { schemaDump } from '../support/schema-dump.ts'
import { createWorkspaces, pendingCount } from '../support/seed.ts'
import { openTransaction } from '../support/transaction.ts'

testOnBothVersions(
  'migrate with logged switches all tables of marks and their indexes, is remembered by migrate without it, and goes back without a trace',
  async ({ pool, connectionString }) => {
    assert.equal((await migrate({ connectionString })).logged, false)
    const dump = await schemaDump(pool)
    await markUsage(pool, await createWorkspaces(pool, 3))

    assert.equal((await migrate({ connectionString, logged: true })).logged, true)
    assert.deepEqual(await persistences(pool), ['p'])
    const files = await filesOf(pool)
    // It is meant, so nobody has to declare it.
    assert.deepEqual(await loggedProblems(pool), [])

    assert.equal((await migrate({ connectionString })).logged, true)
    assert.equal((await migrate({ connectionString, logged: true })).logged, true)
    assert.deepEqual(await filesOf(pool), files, 'nothing is written anew')
    assert.equal(await pendingCount(pool), 3)

    assert.equal((await migrate({ connectionString, logged: false })).logged, false)
    assert.deepEqual(await persistences(pool), ['u'])
    assert.equal(await pendingCount(pool), 3)
    assert.equal(await schemaDump(pool), dump)
  },
)

testOnBothVersions(
  'the verdict and the doctor tell if only some tables of marks are LOGGED, and migrate with logged mends it either way',
  async ({ pool, connectionString }) => {
    await migrate({ connectionString })
    await pool.query('ALTER TABLE pending_usage_witness SET LOGGED')
    assert.deepEqual(await loggedProblems(pool), ['persistence'])
    await migrate({ connectionString, logged: false })
    assert.deepEqual(await loggedProblems(pool), [])

    await pool.query('ALTER TABLE pending_usage SET LOGGED')
    assert.ok((await loggedProblems(pool)).includes('logged-marks'))
    await migrate({ connectionString, logged: true })
    assert.deepEqual(await loggedProblems(pool), [])
  },
)

testOnBothVersions(
  'migrate with logged tries again while a transaction holds marks, and marks of others wait no longer than a moment',
  async database => {
    const { pool, connectionString } = database
    await migrate({ connectionString })
    const [first, second] = await createWorkspaces(pool, 2)
    await using open = await openTransaction(database)
    await markUsage(open.client, first!)
    const log = collectLog()
    const migrating = migrate({ connectionString, logged: true, logger: log.logger })
    await until('it has met the transaction', () => log.find('another transaction holds a table').length > 0)
    const started = performance.now()
    await markUsage(pool, second!)
    const waited = performance.now() - started
    await open.client.query('COMMIT')
    assert.equal((await migrating).logged, true)
    assert.equal(await pendingCount(pool), 2)
    assert.ok(waited < 3_000, `${waited} ms`)
  },
)

/** Of all tables that a crash empties together, and their indexes. */
async function persistences(pool: TestDatabase['pool']): Promise<string[]> {
  const { rows } = await pool.query(
    `SELECT DISTINCT relpersistence AS kind FROM pg_class
    WHERE relname ~ '^(pending_usage|set_aside_usage|refused_usage)' AND relname !~ '_(reset|place)'
      AND relkind IN ('r', 'i')`,
  )
  return rows.map(({ kind }) => kind)
}

async function filesOf(pool: TestDatabase['pool']): Promise<unknown[]> {
  const { rows } = await pool.query(
    `SELECT relname, relfilenode FROM pg_class WHERE relname ~ '^(pending|set_aside|refused)_usage' ORDER BY 1`,
  )
  return rows
}

/** What the verdict and the doctor say of it. */
async function loggedProblems(pool: TestDatabase['pool']): Promise<string[]> {
  const { problems } = await usageHealth(pool)
  const { findings } = await diagnose(pool)
  return [
    ...problems.map(({ code }) => code).filter(code => code === 'logged-marks'),
    ...findings.map(({ code }) => code).filter(code => code === 'persistence'),
  ]
}
