import type { IdleTimes } from '../../activity/idle-row.ts'
import { count } from './count.ts'
import { csvField } from './csv-field.ts'
import { printable } from './printable.ts'
import { formatAge } from './time.ts'
import { TimeColumn } from './time-column.ts'

/** Writes a list of idle workspaces. A million lines are written in pieces of many lines, because each piece takes time. */
export type IdleFormat = (pages: AsyncIterable<Iterable<IdleTimes>>) => AsyncGenerator<string>

/** One JSON document: an array, with one workspace per line. */
export async function* jsonLines(pages: AsyncIterable<Iterable<IdleTimes>>): AsyncGenerator<string> {
  const columns = new Columns('null', '"')
  let before = '[\n'
  for await (const page of pages) {
    yield* inPieces(page, workspace => {
      const line = `${before}{"workspaceId":${jsonText(workspace.workspaceId)},"lastUsedAt":${columns.used(workspace)},"createdAt":${columns.created(workspace)},"usedUntil":${columns.until(workspace)},"idleSince":${columns.since(workspace)},"idleSeconds":${columns.seconds(workspace.idleMs)},"dueAt":${columns.due(workspace)},"leftSeconds":${columns.seconds(workspace.leftMs)}}`
      before = ',\n'
      return line
    })
  }
  yield before === ',\n' ? '\n]\n' : '[]\n'
}

export async function* csvLines(pages: AsyncIterable<Iterable<IdleTimes>>): AsyncGenerator<string> {
  yield 'workspace_id,last_used_at,idle_seconds,created_at,used_until,idle_since,due_at,left_seconds\n'
  const columns = new Columns('', '')
  for await (const page of pages) {
    yield* inPieces(
      page,
      workspace =>
        `${csvField(workspace.workspaceId)},${columns.used(workspace)},${columns.seconds(workspace.idleMs)},${columns.created(workspace)},${columns.until(workspace)},${columns.since(workspace)},${columns.due(workspace)},${columns.seconds(workspace.leftMs)}\n`,
    )
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
    const [usedAt, usedUntilAt] = [new TimeColumn(), new TimeColumn()]
    let lines = 0
    for await (const page of pages) {
      yield* inPieces(page, ({ workspaceId, lastUsedAt, usedUntil, idleMs, leftMs }) => {
        lines += 1
        const used = lastUsedAt === null ? 'never used' : usedAt.toSecond(lastUsedAt)
        const shown = usedUntil === null ? used : `until ${usedUntilAt.toSecond(usedUntil)}`
        const idle = idleMs === null ? '' : formatAge(idleMs / 1_000)
        const left = leftMs === null ? '' : leftMs > 0 ? formatAge(leftMs / 1_000) : 'due'
        return `${row(printable(workspaceId), shown, idle, left)}\n`
      })
    }
    yield `${count(lines, 'workspace')}\n`
  }
}

/** The fields of a line. Each column of times has a memory of its own. */
class Columns {
  readonly #unknown: string
  readonly #quote: string
  readonly #times = {
    used: new TimeColumn(),
    created: new TimeColumn(),
    until: new TimeColumn(),
    since: new TimeColumn(),
    due: new TimeColumn(),
  }

  /** @param unknown What stands for a time or a number that is not known. */
  constructor(unknown: string, quote: string) {
    this.#unknown = unknown
    this.#quote = quote
  }

  used = ({ lastUsedAt }: IdleTimes) => this.#time(this.#times.used, lastUsedAt)
  created = ({ createdAt }: IdleTimes) => this.#time(this.#times.created, createdAt)
  until = ({ usedUntil }: IdleTimes) => this.#time(this.#times.until, usedUntil)
  since = ({ idleSince }: IdleTimes) => this.#time(this.#times.since, idleSince)
  due = ({ dueAt }: IdleTimes) => this.#time(this.#times.due, dueAt)
  seconds = (ms: number | null) => (ms === null ? this.#unknown : secondsText(ms))

  #time(column: TimeColumn, ms: number | null): string {
    return ms === null ? this.#unknown : this.#quote + column.toMillisecond(ms) + this.#quote
  }
}

/** What `JSON.stringify` writes. Most ids need no look at each character. */
function jsonText(text: string): string {
  return /^[\w-]*$/.test(text) ? `"${text}"` : JSON.stringify(text)
}

/** Up to here, a number of seconds with three digits behind the point is exact. */
const EXACT_MS = 1e15

/** What `String(ms / 1_000)` writes, in a tenth of the time. */
export function secondsText(ms: number): string {
  if (!(Math.abs(ms) < EXACT_MS)) return String(ms / 1_000)
  const positive = Math.abs(ms)
  const whole = Math.floor(positive / 1_000)
  return (ms < 0 ? '-' : '') + whole + FRACTIONS[positive - whole * 1_000]
}

/** `.5` for 500 ms, and nothing for none. */
const FRACTIONS = Array.from({ length: 1_000 }, (_, ms) => String(ms / 1_000).slice(1))

/** The characters of a piece. The output is flushed by pieces of about this size anyway. */
const PIECE_LENGTH = 65_536

function* inPieces(page: Iterable<IdleTimes>, line: (workspace: IdleTimes) => string): Generator<string> {
  let piece = ''
  for (const workspace of page) {
    piece += line(workspace)
    if (piece.length < PIECE_LENGTH) continue
    yield piece
    piece = ''
  }
  yield piece
}
