import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { flush } from '../../src/flush/flush.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { createEmptyDatabase } from '../support/database.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'

const PROGRAMS = '/usr/lib/postgresql/15/bin'

test('an adopted table and its view come back from a dump, and a migration with the same values changes nothing', async t => {
  const on = await testServer15()
  if (on === null || !existsSync(`${PROGRAMS}/psql`)) return t.skip(POSTGRES_15_MISSING)
  const source = await createEmptyDatabase({ on })
  await source.pool.query(`CREATE SCHEMA app;
    CREATE TABLE app.boxes (key bigint PRIMARY KEY, "usedAt" timestamptz, born timestamptz, gone boolean);
    INSERT INTO app.boxes VALUES (7)`)
  const before = await hostSchema(source.connectionString, 'app')
  const options = {
    table: 'app.boxes',
    idColumn: 'key',
    lastUsedColumn: 'usedAt',
    createdColumn: 'born',
    where: 'gone IS NOT TRUE',
  }
  await migrate({ connectionString: source.connectionString, ...options })
  assert.equal(await hostSchema(source.connectionString, 'app'), before)
  await source.pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source) VALUES (now() - interval '1 s', 7, 'test')`,
  )
  const target = await createEmptyDatabase({ on })
  const run = promisify(execFile)
  const { stdout } = await run(`${PROGRAMS}/pg_dump`, ['--no-owner', source.connectionString], {
    maxBuffer: 2 ** 26,
  })
  const psql = run(`${PROGRAMS}/psql`, ['--quiet', '-v', 'ON_ERROR_STOP=1', '-d', target.connectionString])
  psql.child.stdin!.end(stdout)
  await psql

  assert.equal((await flush(target.pool)).updated, 1)
  const { adoption, applied, warnings } = await migrate({
    connectionString: target.connectionString,
    ...options,
  })
  assert.deepEqual({ adoption, applied, warnings }, { adoption: 'kept', applied: [], warnings: [] })
  assert.equal(await hostSchema(target.connectionString, 'app'), before)
})

/** What pg_dump says of the schema of the host. A token of the dump that changes each time is left out. */
async function hostSchema(connectionString: string, schema: string): Promise<string> {
  const { stdout } = await promisify(execFile)(`${PROGRAMS}/pg_dump`, [
    '--schema-only',
    '--no-owner',
    `--schema=${schema}`,
    connectionString,
  ])
  return stdout.replaceAll(/^\\(un)?restrict .*$/gm, '')
}
