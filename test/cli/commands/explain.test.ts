import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { flush } from '../../../src/flush/flush.ts'
import { commandLineUrl, runCommand } from '../../support/command-line.ts'
import { createTestDatabase } from '../../support/database.ts'
import { createLoginRole } from '../../support/roles.ts'
import { createWorkspaces, storeClosedMarks } from '../../support/seed.ts'
import { testServer } from '../../support/test-server.ts'

const role = await createLoginRole(await testServer(), 'stranger')
const database = await createTestDatabase()
const { pool, connectionString } = database
const env = { DATABASE_URL: await commandLineUrl(connectionString) }

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('explain shows each source, the newest first, in text that is safe for a terminal', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!], { agoMs: 3 * 86_400_000 + 5_000, source: 'web' })
  await flush(pool)
  await storeClosedMarks(pool, [id!], { agoMs: 7_300_000, source: '\u001b[2J"ssh"\n🦊' })
  const { code, stdout, stderr } = await runCommand(['explain', id!.toUpperCase()], { env })
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  const [first, ...table] = stdout.trimEnd().split('\n')
  const time = '\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\dZ'
  assert.match(first!, new RegExp(`^workspace ${id}: last used 2 h ago, ${time}$`))
  const rows = table.filter(line => line.startsWith('│')).map(line => line.split('│').slice(1, -1))
  assert.deepEqual(
    rows.map(row => row.map(cell => cell.trim().replace(new RegExp(time), 'TIME'))),
    [
      ['source', 'last used', 'ago', 'state'],
      ['\\u{1b}[2J"ssh"\\u{a}🦊', 'TIME', '2 h ago', 'pending'],
      ['web', 'TIME', '3 d ago', 'flushed'],
    ],
  )
})

test('explain --json prints what explainUsage returns', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const at = await storeClosedMarks(pool, [id!], { source: 'a "b"\n' })
  const { code, stdout } = await runCommand(['explain', id!, '--json'], { env })
  const { asOf, ...explanation } = JSON.parse(stdout)
  assert.equal(code, 0)
  assert.ok(Date.parse(asOf) >= at.getTime())
  assert.deepEqual(
    { ...explanation, sources: undefined },
    {
      workspaceId: id,
      exists: true,
      createdAt: null,
      lastUsedAt: at.toISOString(),
      usedUntil: null,
      sources: undefined,
    },
  )
  const [{ source, lastUsedAt, pending, since }] = explanation.sources
  assert.deepEqual(
    { source, lastUsedAt, pending, since },
    {
      source: 'a "b"\n',
      lastUsedAt: at.toISOString(),
      pending: true,
      since: new Date(at.getTime() - 30_000).toISOString(),
    },
  )
})

test('explain says that a workspace was never used, or that its sources are not on record', async () => {
  const [never, unknown] = await createWorkspaces(pool, 2)
  await storeClosedMarks(pool, [unknown!], { agoMs: 60_000 })
  await flush(pool, { sources: false })
  const ofNever = await runCommand(['explain', never!], { env })
  assert.deepEqual(ofNever, { code: 0, stdout: `workspace ${never}: never used\n`, stderr: '' })
  const ofUnknown = await runCommand(['explain', unknown!], { env })
  assert.match(ofUnknown.stdout, /: last used 1 min ago, \S+ \S+Z\nThe source is not on record\.\n$/)
})

test('explain says that a last use is in the future, which no flush has written', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await pool.query("UPDATE workspaces SET last_used_at = '9999-12-31Z'")
  const { code, stdout } = await runCommand(['explain', id!], { env })
  assert.equal(code, 0)
  assert.match(
    stdout,
    /: last used in the future, 9999-12-31 00:00:00Z\nA flush does not write such a time\. /,
  )
})

test('explain ends with 1 for a workspace that does not exist, and still shows its marks', async () => {
  const [missing, marked] = [randomUUID(), randomUUID()]
  await storeClosedMarks(pool, [marked], { source: 'ssh' })
  const ofMissing = await runCommand(['explain', missing], { env })
  assert.deepEqual(ofMissing, { code: 1, stdout: '', stderr: `error: no such workspace: ${missing}\n` })
  const ofMarked = await runCommand(['explain', marked], { env })
  assert.equal(ofMarked.code, 1)
  assert.match(ofMarked.stderr, /^error: no such workspace: .*\nSomebody marks it anyway/)
  assert.match(ofMarked.stdout, /│ ssh .* pending │/)
  const json = await runCommand(['explain', missing, '--json'], { env })
  assert.deepEqual([json.code, JSON.parse(json.stdout).exists], [1, false])
})

test('explain ends with 2 for a malformed id, and names the grant command to a role that may not read', async () => {
  const bad = await runCommand(['explain', '42'], { env })
  assert.equal(bad.code, 2)
  assert.match(bad.stderr, /^error: not a UUID: "42"\./)
  const refused = await runCommand(['explain', randomUUID()], {
    env: { DATABASE_URL: role.connectionString(database) },
  })
  assert.equal(refused.code, 1)
  assert.ok(refused.stderr.endsWith(`Run: workspace-usage grant --reader '${role.name}'\n`), refused.stderr)
})
