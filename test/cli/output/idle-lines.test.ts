import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type IdleTimes, idleWorkspaceOf } from '../../../src/activity/idle-row.ts'
import { csvLines, jsonLines, secondsText, tableLines } from '../../../src/cli/output/idle-lines.ts'
import { TimeColumn } from '../../../src/cli/output/time-column.ts'

const AT = Date.parse('2026-03-01T12:34:56.789Z')
const NEVER: IdleTimes = {
  workspaceId: '7',
  lastUsedAt: null,
  createdAt: null,
  usedUntil: null,
  idleSince: null,
  idleMs: null,
  dueAt: null,
  leftMs: null,
}
const CREATED = { ...NEVER, createdAt: AT, idleSince: AT, idleMs: 90_500, dueAt: AT, leftMs: 90_000_000 }
const BUSY = {
  ...NEVER,
  lastUsedAt: AT,
  usedUntil: AT,
  idleSince: AT,
  idleMs: 0,
  dueAt: AT,
  leftMs: -250,
}

test('the JSON of idle workspaces is what JSON.stringify writes, whatever the id', async () => {
  const workspaces = [NEVER, CREATED, BUSY].map((workspace, n) => ({
    ...workspace,
    workspaceId: ['a"b\n\\', 'ä,\u2028', '-7'][n]!,
  }))
  assert.equal(
    await written(jsonLines(pagesOf(workspaces))),
    `[\n${workspaces.map(workspace => JSON.stringify(idleWorkspaceOf(workspace))).join(',\n')}\n]\n`,
  )
  assert.equal(await written(jsonLines(pagesOf([]))), '[]\n')
})

test('the CSV of idle workspaces puts ids with commas, quotes or line breaks into quotes', async () => {
  const ids = ['plain id', 'a,b', 'say "hi"', 'two\nlines', '']
  const csv = await written(csvLines(pagesOf(ids.map(workspaceId => ({ ...NEVER, workspaceId })))))
  assert.equal(
    csv,
    'workspace_id,last_used_at,idle_seconds,created_at,used_until,idle_since,due_at,left_seconds\n' +
      ['plain id', '"a,b"', '"say ""hi"""', '"two\nlines"', ''].map(id => `${id},,,,,,,\n`).join(''),
  )
})

test('the table of idle workspaces shows what a time is of, and an id that would move the cursor as code points', async () => {
  const id = 'x\u001b[2J'
  const table = await written(tableLines(true)(pagesOf([BUSY, CREATED, { ...NEVER, workspaceId: id }])))
  assert.deepEqual(table.split('\n'), [
    'workspace                             last used                   idle for  time left',
    '7                                     until 2026-03-01 12:34:56Z  0 s       due',
    '7                                     never used                  1 min     1 d',
    'x\\u{1b}[2J                            never used',
    '3 workspaces',
    '',
  ])
})

test('a column of times writes what toISOString does, whatever it wrote before', () => {
  const column = new TimeColumn()
  for (const text of [
    '1970-01-01T00:00:00.000Z',
    '1969-12-31T23:59:59.999Z',
    '1969-12-31T23:59:00.000Z',
    '2026-02-28T23:59:59.001Z',
    '2026-02-28T23:59:09.010Z',
    '2026-02-28T22:59:09.010Z',
    '2026-03-01T22:59:09.010Z',
    '-000001-01-01T01:02:03.004Z',
    '+275760-09-13T00:00:00.000Z',
  ]) {
    assert.equal(column.toMillisecond(Date.parse(text)), text)
    assert.equal(column.toSecond(Date.parse(text)), text.replace(/T(.*)\..*/, ' $1Z'))
  }
})

test('a number of milliseconds is written in seconds as JavaScript writes it', () => {
  for (const ms of [
    0,
    -0,
    1,
    10,
    100,
    999,
    1_000,
    90_500,
    -250,
    -1_001,
    999_999_999_999_999,
    9e15,
    -9e15 - 1,
  ]) {
    assert.equal(secondsText(ms), JSON.stringify(ms / 1_000))
  }
})

async function* pagesOf(workspaces: IdleTimes[]): AsyncGenerator<IdleTimes[]> {
  yield workspaces.slice(0, 2)
  if (workspaces.length > 2) yield workspaces.slice(2)
}

async function written(lines: AsyncIterable<string>): Promise<string> {
  let text = ''
  for await (const line of lines) text += line
  return text
}
