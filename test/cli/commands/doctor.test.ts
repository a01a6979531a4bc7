import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { flush } from '../../../src/flush/flush.ts'
import { commandLineUrl, runCommand, runCommandProcess } from '../../support/command-line.ts'
import { createEmptyDatabase, createTestDatabase } from '../../support/database.ts'
import { createLoginRole } from '../../support/roles.ts'
import { testServer } from '../../support/test-server.ts'

const stranger = await createLoginRole(await testServer(), 'stranger')
const { pool, connectionString } = await createTestDatabase()
const env = { DATABASE_URL: await commandLineUrl(connectionString) }
// As if a worker was there.
await flush(pool)
const ESCAPE = '\u001b['

test('doctor prints one plain line for each thing that it looked at, and ends with 0 if all is well', async () => {
  const { code, stdout, stderr } = await runCommand(['doctor'], { env })
  assert.deepEqual([code, stderr], [0, ''])
  const lines = stdout.trimEnd().split('\n')
  assert.ok(lines.length > 15)
  for (const line of lines.slice(0, -1)) assert.match(line, /^(ok {6}|note {4}) {2}[a-z]+ +\S.*$/)
  assert.match(lines[0]!, /^ok {8}health {6}verdict: lag 0\.0 s$/)
  assert.match(stdout, /^ok {8}access {6}duties: marker, worker, reader, reaper, holder$/m)
  assert.match(lines.at(-1)!, /^0 critical, 0 warnings, \d notes?$/)
  assert.ok(!stdout.includes(ESCAPE))
})

test('doctor ends with 1 on a warning, names it in one line with its remedy, and prints all as JSON', async () => {
  await pool.query('CREATE INDEX "By Use" ON workspaces (last_used_at)')
  try {
    const { code, stdout } = await runCommand(['doctor'], { env })
    assert.equal(code, 1)
    assert.match(
      stdout,
      /^warning {3}workspaces {2}index-on-last-used-at: index "By Use": No flush is a HOT .*\. Remedy: Drop the index.*$/m,
    )
    const json = await runCommand(['doctor', '--json'], { env })
    assert.equal(json.code, 1)
    const { ok, checks, findings } = JSON.parse(json.stdout)
    assert.equal(ok, false)
    assert.ok(checks.length > 15)
    assert.deepEqual(Object.keys(findings[0]), ['code', 'severity', 'object', 'message', 'remedy'])
    assert.equal(findings[0].code, 'index-on-last-used-at')
  } finally {
    await pool.query('DROP INDEX "By Use"')
  }
})

test('doctor on a terminal prints a coloured table that is no wider than the terminal', async () => {
  await pool.query('ALTER TABLE workspaces ADD CONSTRAINT named CHECK (id IS NOT NULL) NOT VALID')
  try {
    const { code, stdout } = await runCommand(['doctor'], { env, terminal: true })
    assert.equal(code, 1)
    assert.ok(stdout.includes(`${ESCAPE}33mwarning${ESCAPE}39m`))
    const plain = stripVTControlCharacters(stdout)
    for (const line of plain.split('\n')) assert.ok(line.length <= 80, line)
    assert.match(plain, /│ warning {2}│ workspaces │ constraint-not-valid: /)
    assert.match(plain, /│ → Mend the rows/)
  } finally {
    await pool.query('ALTER TABLE workspaces DROP CONSTRAINT named')
  }
})

test('doctor that is piped has colours only if FORCE_COLOR says so, and NO_COLOR takes them away', async () => {
  for (const [variables, isColoured] of [
    [{}, false],
    [{ FORCE_COLOR: '1' }, true],
    [{ FORCE_COLOR: '0' }, false],
    [{ NO_COLOR: '1' }, false],
  ] as const) {
    const { stdout } = await runCommandProcess(['doctor'], { env: { ...env, ...variables } })
    assert.equal(stdout.includes(ESCAPE), isColoured, JSON.stringify(variables))
  }
})

test('doctor --as looks at another role, whose name is quoted where a shell needs it', async () => {
  const { code, stdout } = await runCommand(['doctor', '--as', stranger.name], { env })
  assert.equal(code, 1)
  assert.match(stdout, /^warning {3}access {6}no-duty: role "usage stranger \\".*: It can neither mark/m)
  await pool.query(`GRANT SELECT ON workspace_activity TO "${stranger.name.replaceAll('"', '""')}"`)
  const begun = await runCommand(['doctor'], { env: { ...env, WORKSPACE_USAGE_AS: stranger.name } })
  assert.match(
    begun.stdout,
    /privilege-missing: view workspace_activity_by_source: .* of a reader: SELECT on view/,
  )
  assert.ok(begun.stdout.includes(`Run: workspace-usage grant --reader '${stranger.name}'`))
})

test('doctor --as of a role that does not exist, or of none, is an error that prints no diagnosis', async () => {
  const unknown = await runCommand(['doctor', '--as', 'no one'], { env })
  assert.deepEqual([unknown.code, unknown.stdout], [1, ''])
  assert.match(unknown.stderr, /^error: no such role: "no one"\. /)
  const none = await runCommand(['doctor', '--as', ''], { env })
  assert.deepEqual([none.code, none.stdout], [2, ''])
  assert.match(none.stderr, /Allowed: the name of a role\./)
})

test('doctor says what a role may not look at, and ends with 1 on a database that is not migrated', async () => {
  const database = await createEmptyDatabase()
  const empty = await runCommand(['doctor'], { env: { DATABASE_URL: database.connectionString } })
  assert.equal(empty.code, 1)
  assert.match(empty.stdout, /^critical {2}schema {6}not-migrated: .*Remedy: Run: workspace-usage migrate$/m)
  assert.match(empty.stdout, /^unknown {3}health {6}verdict: could not be checked: /m)
})
