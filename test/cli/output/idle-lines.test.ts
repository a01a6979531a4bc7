import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { IdleWorkspace } from '../../../src/activity/idle-row.ts'
import { csvLines, jsonLines, tableLines } from '../../../src/cli/output/idle-lines.ts'
import { isoTime } from '../../../src/cli/output/time.ts'

const AT = new Date('2026-03-01T12:34:56.789Z')
const NEVER: IdleWorkspace = {
  workspaceId: '7',
  lastUsedAt: null,
  createdAt: null,
  usedUntil: null,
  idleSince: null,
  idleSeconds: null,
  dueAt: null,
  leftSeconds: null,
}
const CREATED = { ...NEVER, createdAt: AT, idleSince: AT, idleSeconds: 90.5, dueAt: AT, leftSeconds: 90_000 }
const BUSY = {
  ...NEVER,
  lastUsedAt: AT,
  usedUntil: AT,
  idleSince: AT,
  idleSeconds: 0,
  dueAt: AT,
  leftSeconds: -0.25,
}

test('the JSON of idle workspaces is what JSON.stringify writes, whatever the id', async () => {
  const workspaces = [NEVER, CREATED, BUSY].map((workspace, n) => ({
    ...workspace,
    workspaceId: ['a"b\n\\', 'ä,\u2028', '-7'][n]!,
  }))
  assert.equal(
    await written(jsonLines(pagesOf(workspaces))),
    `[\n${workspaces.map(workspace => JSON.stringify(workspace)).join(',\n')}\n]\n`,
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

test('isoTime writes what toISOString does', () => {
  for (const text of [
    '1970-01-01T00:00:00.000Z',
    '1969-12-31T23:59:59.999Z',
    '2026-02-28T23:59:59.001Z',
    '-000001-01-01T01:02:03.004Z',
    '+275760-09-13T00:00:00.000Z',
  ]) {
    assert.equal(isoTime(new Date(text)), text)
  }
})

async function* pagesOf(workspaces: IdleWorkspace[]): AsyncGenerator<IdleWorkspace[]> {
  yield workspaces.slice(0, 2)
  if (workspaces.length > 2) yield workspaces.slice(2)
}

async function written(lines: AsyncIterable<string>): Promise<string> {
  let text = ''
  for await (const line of lines) text += line
  return text
}
