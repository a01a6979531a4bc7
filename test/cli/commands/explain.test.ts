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
const env = { DATABASE_URL: await commandLineUrl(connectionString), LANG: 'C.UTF-8' }

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
  assert.match(stdout, /\n\nthe last 24 hours until \d\d:\d\d UTC, 30 minutes a character\n/)
  const time = '\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\dZ'
  assert.match(first!, new RegExp(`^workspace ${id}: last used 2 h ago, ${time}$`))
  const rows = table.filter(line => line.startsWith('│')).map(line => line.split('│').slice(1, -1))
  assert.deepEqual(
    rows.map(row => row.map(cell => cell.trim().replace(new RegExp(time), 'TIME'))),
    [
      ['source', 'last used', 'ago', 'in use since', 'state'],
      ['\\u{1b}[2J"ssh"\\u{a}🦊', 'TIME', '2 h ago', '', 'pending'],
      ['web', 'TIME', '3 d ago', '', 'flushed'],
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
    { ...explanation, sources: undefined, from: undefined },
    {
      workspaceId: id,
      exists: true,
      createdAt: null,
      lastUsedAt: at.toISOString(),
      usedUntil: null,
      breakSeconds: 300,
      sources: undefined,
      from: undefined,
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

/** A use by a loop since some hours ago, and one by somebody for an hour. Both are flushed. */
async function useOfANight(): Promise<string> {
  const [id] = await createWorkspaces(pool, 1)
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT now() - n * interval '1 min', $1::uuid, 'keep-alive' FROM generate_series(0, 40 * 60) n
    UNION ALL SELECT now() - n * interval '1 min', $1::uuid, 'ssh' FROM generate_series(300, 360) n`,
    [id],
  )
  await flush(pool, { batchSize: 10_000 })
  return id!
}

test('explain draws an unbroken bar for a loop that keeps a workspace alive, and tells since when it runs', async () => {
  const id = await useOfANight()
  const { stdout } = await runCommand(['explain', id], { env })
  const lines = stdout.trimEnd().split('\n')
  assert.match(lines.find(line => line.startsWith('│ keep-alive'))!, /│ \d{4}-\d\d-\d\d \d\d:\d\dZ │ flushed/)
  const map = lines.slice(lines.indexOf('') + 1)
  assert.match(map[2]!, /^keep-alive {6}█{48} {2}23 h (3|4|5)\d? min$|^keep-alive {6}█{48} {2}24 h$/)
  assert.match(map[3]!, /^ssh {13}·+[░▒▓]?█{1,2}[░▒▓]?·+ {2,3}1 h( 5 min)?$/)
  assert.match(map[4]!, /^all that count {2}█{48} {2}2/)
  assert.equal(map[5], '(· not used, ░ ▒ ▓ in part, █ all the time)')
  assert.ok(
    map.every(line => line.length <= 80),
    stdout,
  )
})

test('explain --days draws a row for each source and day, without a source that has no use then', async () => {
  const id = await useOfANight()
  await storeClosedMarks(pool, [id], { agoMs: 9 * 86_400_000, source: 'long ago' })
  await flush(pool)
  const { stdout } = await runCommand(['explain', id, '--days', '3', '--ascii'], { env })
  const map = stdout
    .slice(stdout.indexOf('\n\n') + 2)
    .trimEnd()
    .split('\n')
  assert.equal(map[0], 'the last 3 days in UTC, 30 minutes a character')
  assert.match(map[1]!, /^ +00 {4}03 {4}06 /)
  const today = Math.floor(Date.now() / 86_400_000)
  const days = [2, 1, 0].map(n => new Date((today - n) * 86_400_000).toISOString().slice(5, 10))
  const rows = map.slice(2, -1).map(line => /^(?:\w{3} )?(\S+)( {2}[.#x+ -]{2,48}.*)?$/.exec(line)?.[1])
  assert.deepEqual(rows, ['keep-alive', ...days, 'ssh', ...days])
  assert.doesNotMatch(stdout, /[^\n -~]/)
})

test('explain --json has the intervals and the minutes of the days that are asked for', async () => {
  const id = await useOfANight()
  const { stdout } = await runCommand(['explain', id, '--json', '--break', '1h', '--days', '1'], { env })
  const { from, asOf, breakSeconds, sources } = JSON.parse(stdout)
  assert.deepEqual([breakSeconds, from], [3_600, `${asOf.slice(0, 10)}T00:00:00.000Z`])
  const [loop] = sources
  assert.deepEqual([loop.source, loop.sinceAtLeast, loop.intervals.length], ['keep-alive', true, 1])
  assert.equal(loop.intervals[0].from, from)
  assert.ok(loop.minutesUsed <= 24 * 60)
})

test('explain tells which source does not count, and until when a source uses the workspace', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!], { source: 'poller' })
  await flush(pool)
  await pool.query("UPDATE source_usage SET counts = source <> 'poller'")
  await pool.query("SELECT mark_usage_until($1, now() + interval '2 h', 'job')", [id])
  const { stdout } = await runCommand(['explain', id!], { env, terminal: true })
  assert.match(stdout, /^workspace .*: last used 0 s ago, .*; in use until \d{4}-/)
  assert.match(stdout, /│ poller .*flushed *│\n.* does not count *│/)
  assert.match(stdout, /│ job .*pending *│\n.* until *│\n.*:\d\dZ *│/)
})

test('explain refuses days and breaks that are not allowed', async () => {
  for (const [option, value, allowed] of [
    ['--days', '0', 'an integer from 1 to 400 days'],
    ['--break', '299s', '5m to 1d'],
    ['--break', '10', 'a whole number and a unit'],
  ] as const) {
    const { code, stderr } = await runCommand(['explain', randomUUID(), option, value], { env })
    assert.deepEqual([code, stderr.includes(allowed)], [2, true], stderr)
  }
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
