import assert from 'node:assert/strict'
import { test } from 'node:test'
import { COMMANDS } from '../../../src/cli/commands/list.ts'
import { runCommand } from '../../support/command-line.ts'

test('every command that uses the database takes the schema, from an option or from its variable', async () => {
  for (const { name, load } of COMMANDS) {
    const flags = (await load()).options().map(({ long }) => long)
    assert.equal(flags.includes('--schema'), flags.includes('--database-url'), name)
  }
})

test('a name that no schema can have is wrong usage, and nothing is connected', async () => {
  const DATABASE_URL = 'postgres://127.0.0.1:1/none'
  const option = await runCommand(['status', '--schema', 'pg_usage'], { env: { DATABASE_URL } })
  assert.equal(option.code, 2)
  assert.match(option.stderr, /--schema <name>.*'pg_usage'.*Allowed: the name of a schema as in pg_namespace/)
  const variable = await runCommand(['status'], {
    env: { DATABASE_URL, WORKSPACE_USAGE_SCHEMA: 'x'.repeat(64) },
  })
  assert.equal(variable.code, 2)
  assert.match(variable.stderr, /WORKSPACE_USAGE_SCHEMA/)
})
