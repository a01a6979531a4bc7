import assert from 'node:assert/strict'
import { test } from 'node:test'
import { revokePrivileges } from '../../../src/access/grant.ts'
import { markUsage } from '../../../src/mark/mark.ts'
import { commandLineUrl, runCommand } from '../../support/command-line.ts'
import { createTestDatabase } from '../../support/database.ts'
import { createLoginRole } from '../../support/roles.ts'
import { createWorkspaces } from '../../support/seed.ts'
import { testServer } from '../../support/test-server.ts'

const server = await testServer()
const one = await createLoginRole(server, 'one')
const two = await createLoginRole(server, 'two')
const database = await createTestDatabase()
const { pool } = database
const env = { DATABASE_URL: await commandLineUrl(database.connectionString) }
const [id] = await createWorkspaces(pool, 1)
const ofRoles = ['--marker', one.name, '--marker', two.name, '--reader', two.name]

async function mayMark(): Promise<boolean[]> {
  const tried = await Promise.allSettled([one, two].map(role => markUsage(role.pool(database), id!)))
  return tried.map(({ status }) => status === 'fulfilled')
}

test('grant and revoke change several roles at once, and --dry-run changes nothing', async () => {
  const dry = await runCommand(['grant', ...ofRoles, '--dry-run'], { env })
  assert.deepEqual([dry.code, dry.stderr], [0, ''])
  assert.deepEqual(await mayMark(), [false, false])

  const granted = await runCommand(['grant', ...ofRoles], { env })
  assert.deepEqual(granted, {
    code: 0,
    stdout: `granted to marker ${one.name}\ngranted to marker ${two.name}\ngranted to reader ${two.name}\n`,
    stderr: '',
  })
  assert.deepEqual(await mayMark(), [true, true])

  const revoked = await runCommand(['revoke', '--marker', one.name], { env })
  assert.deepEqual(revoked, { code: 0, stdout: `revoked from marker ${one.name}\n`, stderr: '' })
  assert.deepEqual(await mayMark(), [false, true])

  // The printed SQL does the same when it is pasted into psql.
  await pool.query(dry.stdout)
  assert.deepEqual(await mayMark(), [true, true])
  const script = (await runCommand(['revoke', ...ofRoles, '--dry-run'], { env })).stdout
  assert.match(script, /^BEGIN;\n(REVOKE .*;\n)+COMMIT;\n$/)
  await pool.query(script)
  assert.deepEqual(await mayMark(), [false, false])
})

test('grant takes a role from an environment variable', async () => {
  const { code } = await runCommand(['grant'], { env: { ...env, WORKSPACE_USAGE_MARKER: one.name } })
  assert.equal(code, 0)
  assert.deepEqual(await mayMark(), [true, false])
  await revokePrivileges(pool, { markers: [one.name] })
})

test('grant ends with 1 and changes nothing if a role does not exist, and ends with 2 if no role is given', async () => {
  const [unknown, none] = await Promise.all([
    runCommand(['grant', '--marker', one.name, '--worker', 'nobody'], { env }),
    runCommand(['grant'], { env }),
  ])
  assert.deepEqual([unknown.code, unknown.stdout], [1, ''])
  assert.match(unknown.stderr, /^error: no such role: "nobody"\. .* Create the role first/)
  assert.deepEqual(await mayMark(), [false, false])
  assert.deepEqual([none.code, none.stdout], [2, ''])
  assert.match(
    none.stderr,
    /^error: name at least one role: --marker, --worker, --reader, --reaper or --holder\n/,
  )
})

test('grant by a role that does not own the tables says which role to connect as', async () => {
  const { code, stderr } = await runCommand(['grant', '--reader', two.name], {
    env: { DATABASE_URL: one.connectionString(database) },
  })
  assert.equal(code, 1)
  assert.match(stderr, /^error: this role may not: GRANT SELECT .* Connect as the role that ran/)
})
