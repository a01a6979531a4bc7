import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { commandLineUrl, runCommand, startCommand } from '../../support/command-line.ts'
import { createTestDatabase } from '../../support/database.ts'
import { until } from '../../support/poll.ts'
import { createLoginRole } from '../../support/roles.ts'
import { createWorkspaces, lastUsedAt } from '../../support/seed.ts'
import { testServer } from '../../support/test-server.ts'

const role = await createLoginRole(await testServer(), 'stranger')
const database = await createTestDatabase()
const { pool, connectionString } = database
const env = { DATABASE_URL: await commandLineUrl(connectionString) }

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces, source_usage CASCADE')
})

const MARCH = new Date('2026-03-01T12:00:00Z')

async function usedSources(): Promise<string[]> {
  const { rows } = await pool.query('SELECT DISTINCT source FROM workspace_usage_day ORDER BY source')
  return rows.map(({ source }) => source)
}

test('import reads CSV with or without a header, with quotes, and with sources where a line has one', async () => {
  const ids = await createWorkspaces(pool, 3)
  const input = [
    '\ufeffWorkspace, Time ,source\r',
    `${ids[0]},2026-03-01T12:00:00Z,"ssh ""x"", y"\r`,
    '',
    `"${ids[1]!.toUpperCase()}","2026-03-01 13:00:00+01"\r`,
    ` ${ids[2]} , 2026-03-01T12:00:00Z ,`,
  ].join('\n')
  const { code, stdout, stderr } = await runCommand(['import', '--source', 'old table'], { env, input })
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  assert.equal(stdout, 'imported 3 rows, 3 workspaces moved forward, 0 refused\n')
  assert.deepEqual(await lastUsedAt(pool, ids), [MARCH, MARCH, MARCH])
  assert.deepEqual(await usedSources(), ['old table', 'ssh "x", y'])
  const again = await runCommand(['import', '--source', 'old table', '--json'], { env, input })
  assert.deepEqual(JSON.parse(again.stdout), {
    rows: 3,
    imported: 3,
    updated: 0,
    refused: 0,
    refusedBy: { invalid: 0, never: 0, future: 0, unknown: 0, held: 0, refused: 0 },
  })
})

test('import tells each line that it refuses, imports the others, and ends with 2', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const missing = randomUUID()
  const input = [
    `${id},2026-02-01T12:00:00Z`,
    `${id}`,
    `${id},2026-02-01T12:00:00Z,ssh,more`,
    `${id},1772366400`,
    `x"y,2026-02-01T12:00:00Z`,
    `\u001b[2J,2026-02-01T12:00:00Z`,
    `${id},9999-02-01T12:00:00Z`,
    `${missing},2026-02-01T12:00:00Z`,
    `${id},2026-03-01T12:00:00Z`,
  ].join('\n')
  const { code, stdout, stderr } = await runCommand(['import'], { env, input })
  assert.equal(code, 2)
  assert.equal(
    stdout,
    'imported 2 rows, 1 workspace moved forward, 7 refused (5 invalid, 1 future, 1 unknown)\n',
  )
  const lines = stderr.trimEnd().split('\n')
  for (const [number, text] of [
    [2, '1 fields. A line is workspace,time or workspace,time,source'],
    [3, '4 fields. '],
    [4, 'the time "1772366400" is only a number. Write ISO 8601 with a zone, '],
    [5, 'no CSV: Invalid Opening Quote'],
    [6, 'not a UUID: '],
    [7, 'the time 9999-02-01T12:00:00.000000Z is in the future, by the clock of the database'],
    [8, `no such workspace: ${missing}`],
  ] as const)
    assert.ok(
      lines.some(line => line.startsWith(`line ${number}: ${text}`)),
      `line ${number}: ${text}\n${stderr}`,
    )
  assert.equal(lines.length, 7)
  assert.ok(!stderr.includes('\u001b'))
  assert.deepEqual(await lastUsedAt(pool, [id!]), [MARCH])
})

test('import tells a quote that is not closed, and keeps what came before', async () => {
  const ids = await createWorkspaces(pool, 2)
  const line = (id: string) => `${id},2026-03-01T12:00:00Z`
  const open = await runCommand(['import'], { env, input: `${line(ids[0]!)}\n"${line(ids[1]!)}\n` })
  assert.equal(open.code, 2)
  assert.match(open.stderr, /^line \d: no CSV: Quote Not Closed/)
  assert.deepEqual(await lastUsedAt(pool, ids), [MARCH, null])
  const rest = Array.from({ length: 1_000 }, () => line(ids[1]!)).join('\n')
  const long = await runCommand(['import'], { env, input: `${line(ids[0]!)}\n"${rest}` })
  assert.equal(long.code, 2)
  assert.match(long.stderr, /longer than 10000 characters\. A quote may be open since an earlier line/)
})

test('import that gets a signal ends after its batch, tells what is stored, and ends with the code of the signal', async () => {
  const ids = await createWorkspaces(pool, 4)
  const command = startCommand(['import', '--batch-size', '3'], { env })
  for (const id of ids) command.stdin.write(`${id},2026-03-01T12:00:00Z\n`)
  await until('a batch is stored', () => lastUsedAt(pool, ids), {
    accept: times => times.filter(time => time !== null).length === 3,
  })
  command.emit('SIGINT', 'SIGINT')
  const { code, stdout, stderr } = await command.ended
  assert.equal(code, 130)
  assert.equal(stderr, 'ended by SIGINT: only these are stored\n')
  assert.equal(stdout, 'imported 3 rows, 3 workspaces moved forward, 0 refused\n')
})

test('import shows its progress on a terminal only', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const command = startCommand(['import'], { env, terminal: true })
  command.stdin.isTTY = false
  command.stdin.end(`${id},2026-03-01T12:00:00Z\n`)
  const { code, stderr } = await command.ended
  assert.equal(code, 0)
  assert.match(stderr, /importing, row /)
})

test('import names the grant command to a role that may not import', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const { code, stderr } = await runCommand(['import'], {
    env: { DATABASE_URL: role.connectionString(database) },
    input: `${id},2026-03-01T12:00:00Z\n`,
  })
  assert.equal(code, 1)
  assert.ok(stderr.endsWith(`Run: workspace-usage grant --worker '${role.name}'\n`), stderr)
})
