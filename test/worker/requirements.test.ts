import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { migrate } from '../../src/schema/migrate.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { createTestDatabase } from '../support/database.ts'
import { collectLog } from '../support/log-lines.ts'

const database = await createTestDatabase()
const { pool, connectionString } = database
const { logger } = collectLog()

const version = async () => (await pool.query('SELECT version FROM pgboss.version')).rows[0].version as number
const installed = await version()
const setVersion = (version: number) => pool.query('UPDATE pgboss.version SET version = $1', [version])

afterEach(async () => {
  await setVersion(installed)
})

test('a pg-boss schema that is too old is refused by a worker, with the remedy', async () => {
  await setVersion(installed - 1)
  await assert.rejects(startFlushWorker({ database: connectionString, logger }), {
    name: 'NotMigratedError',
    message:
      `this database is not migrated: the pg-boss schema has version ${installed - 1}, and version ${installed} is ` +
      'needed. Run `workspace-usage migrate` against it first.',
  })
})

test('a pg-boss schema that is newer than this pg-boss is refused by a worker and by migrate, and left as it is', async () => {
  await setVersion(installed + 4)
  const refusal = {
    name: 'QueueSchemaError',
    message:
      `the pg-boss schema of this database has version ${installed + 4}; expected ${installed}. A newer pg-boss has ` +
      'upgraded it. Upgrade workspace-usage here to a release whose pg-boss works with that version.',
    version: installed + 4,
    expected: installed,
  }
  await assert.rejects(startFlushWorker({ database: connectionString, logger }), refusal)
  await assert.rejects(migrate({ connectionString, logger }), refusal)
  assert.equal(await version(), installed + 4)
})

test('a worker refuses to start if any table of a flush is missing, as in the schema of an older release', async () => {
  const { rows } = await pool.query(`SELECT relname AS table FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname !~ '^workspace_usage|^stopped_'`)
  assert.ok(rows.length >= 7)
  for (const { table } of rows) {
    await pool.query(`ALTER TABLE ${table} RENAME TO gone`)
    // A worker that does start must not outlive the test.
    const starting = startFlushWorker({ database: connectionString, logger }).then(worker => worker.stop())
    await assert.rejects(starting, {
      name: 'NotMigratedError',
      missing: `relation "${table}" does not exist`,
    })
    await pool.query(`ALTER TABLE gone RENAME TO ${table}`)
  }
})
