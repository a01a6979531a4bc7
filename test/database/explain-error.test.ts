import assert from 'node:assert/strict'
import { test } from 'node:test'
import { execute } from '../../src/database/connection.ts'
import { explainDatabaseError } from '../../src/database/explain-error.ts'
import { NotMigratedError, StandbyError } from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { runCommand } from '../support/command-line.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

/** What a function of a host misses, and the code of the error. */
const missing = {
  'a table': ['SELECT FROM no_such_table', '42P01'],
  'a column': ['SELECT no_such_column FROM pg_class', '42703'],
  'a function': ['SELECT no_such_function()', '42883'],
  'a schema': ['CREATE TABLE no_such_schema.t ()', '3F000'],
} as const

for (const [version, server] of Object.entries({ 18: testServer, 15: testServer15 })) {
  const onVersion = (name: string, body: (database: TestDatabase) => Promise<void>) =>
    test(`${name}, on PostgreSQL ${version}`, async t => {
      const url = await server()
      if (url === null) return t.skip(POSTGRES_15_MISSING)
      await body(await createTestDatabase({ on: url }))
    })

  for (const [what, [statement, code]] of Object.entries(missing)) {
    onVersion(
      `a trigger of the host that misses ${what} is not called a missing migration`,
      async database => {
        const { pool, connectionString } = database
        await pool.query(`
        CREATE FUNCTION of_the_host() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN EXECUTE '${statement}'; RETURN NEW; END $$;
        CREATE TRIGGER of_the_host BEFORE INSERT ON pending_usage FOR EACH ROW EXECUTE FUNCTION of_the_host()`)
        const [id] = await createWorkspaces(pool, 1)
        await assert.rejects(markUsage(pool, id!), { name: 'error', code })
        const { stderr } = await runCommand(['mark', id!], { env: { DATABASE_URL: connectionString } })
        assert.match(stderr, new RegExp(`^error: the database refused: .* \\(SQLSTATE ${code}\\), in: `))
        assert.match(stderr, /PL\/pgSQL function of_the_host\(\)/)
      },
    )
  }

  onVersion(
    'a rule of the host, which PostgreSQL does not support, is not called a standby',
    async ({ pool }) => {
      await pool.query('CREATE RULE of_the_host AS ON INSERT TO pending_usage DO ALSO SELECT 1')
      const [id] = await createWorkspaces(pool, 1)
      await assert.rejects(markUsage(pool, id!), { name: 'error', code: '0A000' })
      await pool.query('DROP RULE of_the_host ON pending_usage')
      await pool.query('CREATE RULE of_the_host AS ON UPDATE TO workspaces DO INSTEAD NOTIFY used')
      await storeClosedMarks(pool, [id!])
      await assert.rejects(flush(pool), { name: 'error', code: '0A000' })
    },
  )

  onVersion('a column of the host with another type is not called a missing migration', async ({ pool }) => {
    const wrongType = execute(pool, {
      sql: 'SELECT FROM workspaces WHERE last_used_at = id',
      parameters: [],
    })
    await assert.rejects(wrongType, { name: 'error', code: '42883' })
  })

  onVersion('an object of ours that is missing is called a missing migration', async ({ pool }) => {
    for (const sql of [
      'SELECT FROM no_such_table',
      'SELECT no_such_function()',
      'SELECT no_such_column FROM workspaces',
      'SELECT FROM pgboss_of_nobody.job',
    ]) {
      await assert.rejects(execute(pool, { sql, parameters: [] }), NotMigratedError)
    }
  })
}

test('errors are told apart without their text, which may be translated', () => {
  const raised = (code: string, fields: object = {}) =>
    Object.assign(new Error('Fehler'), { code, ...fields })
  const explained = (error: Error) => explainDatabaseError(error)
  assert.ok(explained(raised('0A000', { routine: 'get_relation_info' })) instanceof StandbyError)
  assert.ok(explained(raised('42P01', { routine: 'parserOpenTable' })) instanceof NotMigratedError)
  for (const other of [
    raised('0A000', { routine: 'transformOnConflictArbiter' }),
    raised('42P01', { routine: 'parserOpenTable', where: 'PL/pgSQL-Funktion of_the_host() Zeile 1' }),
    raised('42883', { routine: 'op_error' }),
    raised('42501', { routine: 'aclcheck_error' }),
  ]) {
    assert.equal(explained(other), other)
  }
})
