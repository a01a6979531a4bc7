import type { IdleWorkspace } from '../../activity/idle-row.ts'
import { count } from './count.ts'
import { csvField } from './csv-field.ts'
import { printable } from './printable.ts'
import { formatAge, formatTime, isoTime } from './time.ts'

/** Writes a list of idle workspaces. A million lines are written in pieces of many lines, because each piece takes time. */
export type IdleFormat = (pages: AsyncIterable<Iterable<IdleWorkspace>>) => AsyncGenerator<string>

/** One JSON document: an array, with one workspace per line. */
export async function* jsonLines(pages: AsyncIterable<Iterable<IdleWorkspace>>): AsyncGenerator<string> {
  let before = '[\n'
  for await (const page of pages) {
    yield* inPieces(page, workspace => {
      const line = before + json(workspace)
      before = ',\n'
      return line
    })
  }
  yield before === ',\n' ? '\n]\n' : '[]\n'
}

/** What `JSON.stringify` writes, in a third of the time. */
function json(workspace: IdleWorkspace): string {
  const { workspaceId, lastUsedAt, createdAt, usedUntil, idleSince, idleSeconds, dueAt, leftSeconds } =
    workspace
  const time = (date: Date | null) => (date === null ? null : `"${isoTime(date)}"`)
  return `{"workspaceId":${JSON.stringify(workspaceId)},"lastUsedAt":${time(lastUsedAt)},"createdAt":${time(createdAt)},"usedUntil":${time(usedUntil)},"idleSince":${time(idleSince)},"idleSeconds":${idleSeconds},"dueAt":${time(dueAt)},"leftSeconds":${leftSeconds}}`
}

export async function* csvLines(pages: AsyncIterable<Iterable<IdleWorkspace>>): AsyncGenerator<string> {
  yield 'workspace_id,last_used_at,idle_seconds,created_at,used_until,idle_since,due_at,left_seconds\n'
  for await (const page of pages) {
    yield* inPieces(page, workspace => {
      const { workspaceId, lastUsedAt, createdAt, usedUntil, idleSince, dueAt } = workspace
      const { idleSeconds, leftSeconds } = workspace
      const time = (date: Date | null) => (date === null ? '' : isoTime(date))
      return `${csvField(workspaceId)},${time(lastUsedAt)},${idleSeconds ?? ''},${time(createdAt)},${time(usedUntil)},${time(idleSince)},${time(dueAt)},${leftSeconds ?? ''}\n`
    })
  }
}

/**
 * A table for people. Its columns have fixed widths. To fit them to the content, all rows would have to be in memory.
 *
 * @param within Whether workspaces are listed that are not due yet. Then a column shows the time left.
 */
export function tableLines(within: boolean): IdleFormat {
  return async function* (pages) {
    const width = within ? 26 : 20
    const row = (...[id, used, idle, left]: [string, string, string, string]) =>
      `${id.padEnd(36)}  ${used.padEnd(width)}  ${within ? `${idle.padEnd(8)}  ${left}` : idle}`.trimEnd()
    yield `${row('workspace', 'last used', 'idle for', 'time left')}\n`
    let lines = 0
    for await (const page of pages) {
      yield* inPieces(page, ({ workspaceId, lastUsedAt, usedUntil, idleSeconds, leftSeconds }) => {
        lines += 1
        const used = usedUntil ? `until ${formatTime(usedUntil)}` : lastUsedAt && formatTime(lastUsedAt)
        const idle = idleSeconds === null ? '' : formatAge(idleSeconds)
        const left = leftSeconds === null ? '' : leftSeconds > 0 ? formatAge(leftSeconds) : 'due'
        return `${row(printable(workspaceId), used ?? 'never used', idle, left)}\n`
      })
    }
    yield `${count(lines, 'workspace')}\n`
  }
}

/** The characters of a piece. The output is flushed by pieces of about this size anyway. */
const PIECE_LENGTH = 65_536

function* inPieces(
  page: Iterable<IdleWorkspace>,
  line: (workspace: IdleWorkspace) => string,
): Generator<string> {
  let piece = ''
  for (const workspace of page) {
    piece += line(workspace)
    if (piece.length < PIECE_LENGTH) continue
    yield piece
    piece = ''
  }
  yield piece
}
